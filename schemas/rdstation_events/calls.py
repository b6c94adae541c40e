"""CALL_FINISHED. Source: "Evento de Chamada Concluída" on "Eventos"."""

from rdstation_events.contacts import (
    DATA_PROCESSING_NOTE,
    NO_CUSTOM_FIELDS_NOTE,
    LegalBaseRows,
    WorkRows,
    email_field,
)
from rdstation_events.event_type import EventType, Timestamp, field


class CallRows(LegalBaseRows, WorkRows):
    """One finished call per row. Source: "Evento de Chamada Concluída"."""

    email: str = email_field(identity=True)
    personal_phone: str = field(
        "Phone of the person who took the call.",
        example="+5511900000000",
        format="phone",
        nullable=True,
    )
    call_user_email: str = field(
        "E-mail of the agent who made or took the call.",
        example="agente@loja.example.com",
        format="email",
        nullable=True,
    )
    call_started_at: Timestamp = field(
        "When the call began.", example="2026-03-15T14:53:42.928Z", nullable=True, identity=True
    )
    call_from_number: str = field(
        "Call-tracking number.", example="+551130000000", format="phone", identity=True
    )
    call_duration: int = field(
        "Length in seconds; the API wants it as a string.",
        example="58",
        nullable=True,
        as_text=True,
        ge=0,
    )
    call_type: str = field(
        "Direction of the call.",
        example="Inbound",
        nullable=True,
        options=("Inbound", "Outbound"),
    )
    call_status: str = field("Call status, no list of values given.", example="in_progress")
    call_status_description: str = field(
        "Detail on the status, e.g. who answered.", example="n/a", nullable=True
    )
    call_phone_type: str = field(
        "Kind of phone; the docs name Mobile and comercial.",
        example="Mobile",
        nullable=True,
        suggested=("Mobile", "comercial"),
    )
    call_carrier: str = field("Phone carrier.", example="Vivo", nullable=True)
    call_record: str = field(
        "URL of the recording.",
        example="https://calls.example.com/c9266675",
        format="url",
        nullable=True,
        identity=True,
    )


CALL_FINISHED = EventType(
    name="CALL_FINISHED",
    family="call",
    summary="A phone call ended.",
    rows=CallRows,
    notes=(NO_CUSTOM_FIELDS_NOTE, DATA_PROCESSING_NOTE),
)
