"""The qualification types: an existing contact becomes an opportunity, is won, or is lost.

Source: "Evento de Marcação de Oportunidade", "… Ganha" and "… Perdida" on "Eventos".
"""

from rdstation_events.contacts import DatedRows
from rdstation_events.event_type import EventRows, EventType, field


class OpportunityRows(DatedRows):
    """One opportunity per row. Source: "Evento de Marcação de Oportunidade"."""

    funnel_name: str = field(
        "Funnel in which the contact is marked; the only value seen anywhere is default.",
        example="default",
        identity=True,
    )


class SaleRows(OpportunityRows):
    """One sale per row. Source: "Evento de Marcação de Oportunidade Ganha"."""

    value: float = field(
        "Amount of the won opportunity.",
        example="200.0",
        nullable=True,
        ge=0,
        source='"Evento de Marcação de Oportunidade Ganha"; not below 0: the vendor\'s n8n node',
    )


class LostRows(OpportunityRows):
    """One lost opportunity per row. Source: "Evento de Marcação de Oportunidade Perdida"."""

    reason: str = field("Why the opportunity was lost.", example="preço", nullable=True)


def _qualification(name: str, summary: str, rows: type[EventRows], *notes: str) -> EventType:
    return EventType(
        name=name,
        family="qualification",
        summary=summary,
        rows=rows,
        needs_contact=True,
        notes=(
            "The contact must already exist; otherwise the event is not processed.",
            "After creating the contact by a CONVERSION, wait a few minutes before this event.",
            "Legal bases: none are documented for this event, so none are sent.",
            *notes,
        ),
    )


OPPORTUNITY = _qualification(
    "OPPORTUNITY", "Marks an existing contact as an opportunity.", OpportunityRows
)
SALE = _qualification(
    "SALE",
    "Marks an existing contact's opportunity as won.",
    SaleRows,
    'The pages call this event "opportunity won".',
)
OPPORTUNITY_LOST = _qualification(
    "OPPORTUNITY_LOST", "Marks an existing contact's opportunity as lost.", LostRows
)
