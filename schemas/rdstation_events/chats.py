"""The two chat types. Source: "Eventos de Chat" on "Eventos"."""

from typing import Final

from rdstation_events.contacts import (
    DATA_PROCESSING_NOTE,
    DatedRows,
    LegalBaseRows,
    ProfileRows,
)
from rdstation_events.event_type import EventType, field


class ChatStartedRows(LegalBaseRows, ProfileRows, DatedRows):
    """One chat per row, as it began. Source: "Evento de Início da Conversa"."""

    chat_subject: str = field("Subject of the chat.", example="Dúvida sobre entrega", identity=True)
    cf_chat_status: str = field("Status of the chat, free text.", example="online")
    cf_chat_type: str = field(
        "Kind of chat (sales, support, ...), free text.", example="support", nullable=True
    )
    cf_birthdate: str = field(
        "Contact's date of birth; 1980-06-10 in the only example.",
        example="1980-06-10",
        nullable=True,
    )
    cf_gender: str = field("Contact's gender, free text.", example="feminino", nullable=True)


class ChatFinishedRows(ChatStartedRows):
    """One chat per row, with what was said. Source: "Evento de Término da Conversa"."""

    cf_chat_transcript_message: str = field(
        "Transcript of the conversation.",
        example="Cliente: Olá! Atendente: Olá, como posso ajudar?",
    )


_NOTES: Final = (
    "The cf_chat_*, cf_birthdate and cf_gender keys belong to the event, not to the account.",
    "Account custom fields are not accepted.",
    DATA_PROCESSING_NOTE,
)

CHAT_STARTED = EventType(
    name="CHAT_STARTED",
    family="chat",
    summary="A contact opened a chat.",
    rows=ChatStartedRows,
    notes=_NOTES,
)
CHAT_FINISHED = EventType(
    name="CHAT_FINISHED",
    family="chat",
    summary="A contact's chat ended.",
    rows=ChatFinishedRows,
    notes=_NOTES,
)
