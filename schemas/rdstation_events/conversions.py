"""CONVERSION: the one type that creates contacts, and the one that takes tags and custom fields.

Source: "Evento de Conversão" on "Eventos".
"""

from rdstation_events.contacts import (
    DATA_PROCESSING_NOTE,
    DatedRows,
    LegalBaseRows,
    ProfileRows,
)
from rdstation_events.event_type import EventType, TextList, field


class ConversionRows(LegalBaseRows, ProfileRows, DatedRows):
    """One conversion per row. Source: "Evento de Conversão"."""

    conversion_identifier: str = field(
        "Name under which the conversion is recorded; becomes the event's identifier.",
        example="compra-loja-fisica",
        identity=True,
        max_length=255,
        source='"Evento de Conversão"; the length: community notes',
    )
    state: str = field("State or province of the contact, free text.", example="SP", nullable=True)
    city: str = field("City of the contact, free text.", example="São Paulo", nullable=True)
    country: str = field("Country of the contact, free text.", example="Brasil", nullable=True)
    company_address: str = field(
        "Postal address of the contact's company.", example="Av. Paulista, 1000", nullable=True
    )
    client_tracking_id: str = field(
        "Value of the visitor's _rdtrk tracking cookie.",
        example="43b00843-09af-4fae-bf9d-a0697640b808",
        nullable=True,
    )
    traffic_source: str = field(
        "Either the __trf.src cookie (raw or base64) or the UTM source; "
        "with a cookie value the other three traffic_* fields must be empty.",
        example="google",
        nullable=True,
    )
    traffic_medium: str = field("UTM medium.", example="cpc", nullable=True)
    traffic_campaign: str = field("UTM campaign.", example="pascoa-2026", nullable=True)
    traffic_value: str = field("UTM term.", example="ovo de pascoa", nullable=True)
    tags: TextList = field(
        "Tags to add to the contact.", example="importado;loja-fisica", nullable=True
    )
    available_for_mailing: bool = field(
        "Whether the contact may receive e-mail.", example="true", nullable=True
    )


CONVERSION = EventType(
    name="CONVERSION",
    family="conversion",
    summary="A contact converted; creates or updates the contact.",
    rows=ConversionRows,
    creates_contact=True,
    takes_custom_fields=True,
    notes=(
        "Only event type that accepts account custom fields and tags.",
        "Recording it can start automations, count as a conversion in reports and notify users.",
        DATA_PROCESSING_NOTE,
    ),
)
