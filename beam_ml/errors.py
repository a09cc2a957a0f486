"""Every error beam_ml raises on purpose, drawn as a tree.

::

    BeamMLError
    ├── InvalidValue          a spec, job or argument was refused: name, rule, value  (a ValueError)
    ├── InvalidBatch          arrays that do not make a batch                         (a ValueError)
    ├── MergeRefused          two summaries or learners that must not be added
    ├── RemoveRefused         a part that cannot be taken out of a summary: it is not in it, or no longer apart
    ├── DeriveRefused         a model the learner cannot derive (no rows yet, foreign model spec)
    ├── TrainingFailed        folds turned non-finite too often to continue
    ├── ArtefactError
    │   ├── CorruptArtefact   bytes that are not a whole, undamaged artefact
    │   ├── UnsupportedVersion  written by a format this library does not know
    │   ├── WrongKind         a good artefact of another kind or algorithm than asked for
    │   └── MissingAlgorithm  an algorithm that the caller did not name, or that cannot be imported here
    ├── RegistryError
    │   ├── VersionNotFound   no such name or version
    │   ├── HeadMoved         another trainer published the next version first
    │   └── PublishFailed     the store refused a write; what was served is still served
    ├── SourceError
    │   ├── NoInput           no such file or topic
    │   ├── UnreadableInput   a file that cannot be opened or decoded
    │   ├── InputChanged      a file is no longer what the plan saw
    │   ├── MissingColumn     a column the features name is absent or has the wrong type
    │   ├── SourceUnavailable brokers that do not answer
    │   │   └── SourceRefused brokers that do not let this user in
    │   └── RowsLost          messages that were to be read are gone
    ├── RoundAbandoned        a round whose progress is not exactly its plan; nothing of it has had an effect
    ├── EngineRefused         this runner cannot do what the pipeline needs
    └── MissingExtra          a part of the package that was not installed            (an ImportError)
"""

__all__ = [
    "ArtefactError",
    "BeamMLError",
    "CorruptArtefact",
    "DeriveRefused",
    "EngineRefused",
    "HeadMoved",
    "InputChanged",
    "InvalidBatch",
    "InvalidValue",
    "MergeRefused",
    "MissingAlgorithm",
    "MissingColumn",
    "MissingExtra",
    "NoInput",
    "PublishFailed",
    "RegistryError",
    "RemoveRefused",
    "RoundAbandoned",
    "RowsLost",
    "SourceError",
    "SourceRefused",
    "SourceUnavailable",
    "TrainingFailed",
    "UnreadableInput",
    "UnsupportedVersion",
    "VersionNotFound",
    "WrongKind",
]


class BeamMLError(Exception):
    """Base of every error raised on purpose by beam_ml."""


class InvalidValue(BeamMLError, ValueError):
    """A value was refused; the message names field, rule and value."""


class InvalidBatch(BeamMLError, ValueError):
    """Arrays whose shapes, types or order do not make a batch."""


class MergeRefused(BeamMLError):
    """Two summaries or learners that must not be merged."""


class RemoveRefused(BeamMLError):
    """A part that cannot be taken out of a summary: it is not in it, or is no longer distinct from the rest."""


class DeriveRefused(BeamMLError):
    """A model that this learner cannot derive."""


class TrainingFailed(BeamMLError):
    """Training cannot continue; the last good learner is kept."""


class ArtefactError(BeamMLError):
    """Base of the errors about stored bytes."""


class CorruptArtefact(ArtefactError):
    """Bytes that are not a whole, undamaged artefact."""


class UnsupportedVersion(ArtefactError):
    """An artefact of a format or algorithm version this library does not know."""


class WrongKind(ArtefactError):
    """A good artefact, but of another kind or algorithm than asked for."""


class MissingAlgorithm(ArtefactError):
    """An artefact of an algorithm that is not built in and that the caller did not name, or whose module is not here."""


class RegistryError(BeamMLError):
    """Base of the errors about the registry."""


class VersionNotFound(RegistryError):
    """No such name or version in the registry."""


class HeadMoved(RegistryError):
    """Somebody else published a version on top of the expected parent first."""


class PublishFailed(RegistryError):
    """The store refused a write; the version served before is still served."""


class SourceError(BeamMLError):
    """Base of the errors about input data."""


class NoInput(SourceError):
    """A source that names no file, or a topic that is not there."""


class UnreadableInput(SourceError):
    """A file that cannot be opened or decoded."""


class InputChanged(SourceError):
    """A file that is no longer what the plan saw."""


class MissingColumn(SourceError):
    """A column that the features name is absent or has the wrong type."""


class SourceUnavailable(SourceError):
    """Brokers that do not answer in time."""


class SourceRefused(SourceUnavailable):
    """Brokers that do not let this user in, or not at this topic: to wait would change nothing."""


class RowsLost(SourceError):
    """Messages still to be read are gone: retention overtook the reader, or the topic was recreated."""


class RoundAbandoned(BeamMLError):
    """A round whose progress is not exactly its plan; nothing of it has had an effect."""


class EngineRefused(BeamMLError):
    """A runner that cannot do what the pipeline needs."""


class MissingExtra(BeamMLError, ImportError):
    """A part of the package whose libraries were not installed with it; the message says how to."""
