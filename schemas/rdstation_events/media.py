"""The two media types. Source: "Eventos de Mídia" on "Eventos"."""

from rdstation_events.contacts import (
    DATA_PROCESSING_NOTE,
    DatedRows,
    LegalBaseRows,
    ProfileRows,
)
from rdstation_events.event_type import EventType, Timestamp, field


class PlaybackStartedRows(LegalBaseRows, ProfileRows, DatedRows):
    """One playback per row, as it began. Source: "Evento de Início do Playback de uma Mídia"."""

    media_type: str = field(
        "Kind of media; the field table says Video or Audio, a newer page shows Áudio.",
        example="Video",
        suggested=("Video", "Audio"),
    )
    media_identifier: str = field(
        "Identifier of the media.",
        example="c9266675-f484-44a7-9ad1-e43a080a8545",
        identity=True,
    )
    media_metadata: str = field(
        "URL of the media.",
        example="https://media.example.com/videos/c9266675",
        format="url",
        nullable=True,
    )
    media_recorded_content: bool = field(
        "True for a recording, false for live content.", example="true", nullable=True
    )
    media_category: str = field("Category of the media.", example="Marketing", nullable=True)
    media_duration: int = field(
        "Length of the media in seconds.", example="58", nullable=True, ge=0
    )
    media_published_date_timestamp: Timestamp = field(
        "When the media was published.", example="2026-03-11T14:53:42.928Z", nullable=True
    )


class PlaybackStoppedRows(PlaybackStartedRows):
    """One playback per row, as it ended. Source: "Evento de Término do Playback de uma Mídia"."""

    media_finished: bool = field("Whether it was played to the end.", example="true", nullable=True)
    media_user_interaction_duration: int = field(
        "Seconds actually played.", example="30", nullable=True, ge=0
    )
    media_user_interaction_percentage: int = field(
        "Share of the media that was played, in percent.",
        example="52",
        nullable=True,
        ge=0,
        le=100,
    )
    media_user_interaction_date_timestamp: Timestamp = field(
        "When the media was consumed.",
        example="2026-03-15T14:53:42.928Z",
        nullable=True,
        identity=True,
    )


MEDIA_PLAYBACK_STARTED = EventType(
    name="MEDIA_PLAYBACK_STARTED",
    family="media",
    summary="A contact started playing a video or audio.",
    rows=PlaybackStartedRows,
    notes=(DATA_PROCESSING_NOTE,),
)
MEDIA_PLAYBACK_STOPPED = EventType(
    name="MEDIA_PLAYBACK_STOPPED",
    family="media",
    summary="A contact stopped playing a video or audio.",
    rows=PlaybackStoppedRows,
    notes=(DATA_PROCESSING_NOTE,),
)
