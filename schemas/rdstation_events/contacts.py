"""Columns that several event types share: the contact, its legal bases, and the date of the row."""

from typing import Any, ClassVar, Final

from rdstation_events.event_type import EventRows, Origin, Timestamp, field

FIELD_TABLES: Final = Origin(source='"Eventos", the reference of event types', trust="seed")


def email_field(*, identity: bool) -> Any:
    """Declare the contact's e-mail, at most 255 characters. Source: community notes."""
    return field(
        "E-mail that identifies the contact.",
        example="ana.souza@example.com",
        format="email",
        max_length=255,
        identity=identity,
    )


def date_field(*, identity: bool) -> Any:
    """Declare the source's own date of the row."""
    return field(
        "When it happened, by the source's own record; RD Station dates events on arrival.",
        example="2026-03-15T14:53:42.928Z",
        nullable=True,
        identity=identity,
        sent=False,
        source="the export; no event type has a field for it",
    )


class ContactRows(EventRows):
    """What every row has: whom it is about, and when it happened.

    Source: `email` is required on all event types ("Eventos" and the vendor's n8n node).
    """

    _origin: ClassVar[Origin] = FIELD_TABLES

    email: str = email_field(identity=False)
    event_timestamp: Timestamp = date_field(identity=False)


class DatedRows(ContactRows):
    """Events without an id of their own: whom and when are part of what makes them unique."""

    email: str = email_field(identity=True)
    event_timestamp: Timestamp = date_field(identity=True)


class NamedRows(ContactRows):
    """The contact's name."""

    name: str = field("Full name of the contact.", example="Ana Souza", nullable=True)


class PhoneRows(NamedRows):
    """The contact's name and phones: free text, E.164 in all examples."""

    mobile_phone: str = field(
        "Contact's mobile phone; does not identify the contact.",
        example="+5511900000000",
        format="phone",
        nullable=True,
    )
    personal_phone: str = field(
        "Contact's landline or main phone; does not identify the contact.",
        example="+551130000000",
        format="phone",
        nullable=True,
    )


class WorkRows(NamedRows):
    """The contact's name, job and company."""

    company_name: str = field("Name of the contact's company.", example="Acme Ltda", nullable=True)
    company_site: str = field(
        "Website of the contact's company.",
        example="https://acme.example.com",
        format="url",
        nullable=True,
    )
    job_title: str = field("Contact's job title.", example="Gerente de Compras", nullable=True)


class ProfileRows(PhoneRows, WorkRows):
    """The contact as conversions, chats and media describe it."""

    twitter: str = field("Twitter/X handle.", example="@anasouza", nullable=True)
    facebook: str = field(
        "Facebook profile.", example="https://facebook.com/ana.souza", nullable=True
    )
    linkedin: str = field(
        "LinkedIn profile.", example="https://www.linkedin.com/in/anasouza/", nullable=True
    )
    website: str = field(
        "Contact's website.", example="https://anasouza.example.com", format="url", nullable=True
    )


LEGAL_BASE_TYPES: Final = (
    "pre_existent_contract",
    "consent",
    "legitimate_interest",
    "judicial_process",
    "vital_interest",
    "public_interest",
)


def _ground(category: str) -> Any:
    return field(
        f"Which legal ground applies to {category}.",
        example="consent",
        column=f"legal_bases.{category}.type",
        required_with=f"legal_bases.{category}",
        options=LEGAL_BASE_TYPES,
    )


class CommunicationsRows(ContactRows):
    """The legal base for communications: a ground, and whether it was granted.

    Source: "Legal Bases" on "Eventos"; the portal's e-commerce pages and the vendor's n8n node name
    this category alone.
    """

    legal_bases_communications_type: str = _ground("communications")
    legal_bases_communications_status: str = field(
        "Whether communications were granted or declined.",
        example="granted",
        column="legal_bases.communications.status",
        required_with="legal_bases.communications",
        options=("granted", "declined"),
    )


class DataProcessingRows(ContactRows):
    """The legal base for data processing: a ground; a status may be left out, never declined.

    Source: "Legal Bases" on "Eventos".
    """

    legal_bases_data_processing_type: str = _ground("data_processing")
    legal_bases_data_processing_status: str = field(
        "May be left out; only granted is legal for data_processing.",
        example="granted",
        column="legal_bases.data_processing.status",
        nullable=True,
        options=("granted",),
    )


class LegalBaseRows(CommunicationsRows, DataProcessingRows):
    """Both categories, as the field tables of "Eventos" list them."""


DATA_PROCESSING_NOTE: Final = (
    "Legal bases: the field tables allow data_processing, "
    "the current portal pages name communications only."
)
NO_CUSTOM_FIELDS_NOTE: Final = "Custom fields: no statement found, so none are sent."
