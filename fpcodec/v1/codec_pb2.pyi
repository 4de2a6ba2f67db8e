from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NegotiationOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NEGOTIATION_OUTCOME_UNSPECIFIED: _ClassVar[NegotiationOutcome]
    NEGOTIATION_OUTCOME_ACCEPTED: _ClassVar[NegotiationOutcome]
    NEGOTIATION_OUTCOME_UNKNOWN_STREAM: _ClassVar[NegotiationOutcome]
    NEGOTIATION_OUTCOME_UNSUPPORTED_VERSION: _ClassVar[NegotiationOutcome]
NEGOTIATION_OUTCOME_UNSPECIFIED: NegotiationOutcome
NEGOTIATION_OUTCOME_ACCEPTED: NegotiationOutcome
NEGOTIATION_OUTCOME_UNKNOWN_STREAM: NegotiationOutcome
NEGOTIATION_OUTCOME_UNSUPPORTED_VERSION: NegotiationOutcome

class NegotiateRequest(_message.Message):
    __slots__ = ("stream_ids", "frame_versions", "client_version")
    STREAM_IDS_FIELD_NUMBER: _ClassVar[int]
    FRAME_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    stream_ids: _containers.RepeatedScalarFieldContainer[bytes]
    frame_versions: _containers.RepeatedScalarFieldContainer[int]
    client_version: str
    def __init__(self, stream_ids: _Optional[_Iterable[bytes]] = ..., frame_versions: _Optional[_Iterable[int]] = ..., client_version: _Optional[str] = ...) -> None: ...

class NegotiateResponse(_message.Message):
    __slots__ = ("outcome", "stream_id", "frame_version", "served_stream_ids", "served_frame_versions", "limits", "labels", "profile_name", "server_version")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVED_STREAM_IDS_FIELD_NUMBER: _ClassVar[int]
    SERVED_FRAME_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PROFILE_NAME_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    outcome: NegotiationOutcome
    stream_id: bytes
    frame_version: int
    served_stream_ids: _containers.RepeatedScalarFieldContainer[bytes]
    served_frame_versions: _containers.RepeatedScalarFieldContainer[int]
    limits: FrameLimits
    labels: _containers.RepeatedScalarFieldContainer[str]
    profile_name: str
    server_version: str
    def __init__(self, outcome: _Optional[_Union[NegotiationOutcome, str]] = ..., stream_id: _Optional[bytes] = ..., frame_version: _Optional[int] = ..., served_stream_ids: _Optional[_Iterable[bytes]] = ..., served_frame_versions: _Optional[_Iterable[int]] = ..., limits: _Optional[_Union[FrameLimits, _Mapping]] = ..., labels: _Optional[_Iterable[str]] = ..., profile_name: _Optional[str] = ..., server_version: _Optional[str] = ...) -> None: ...

class FrameLimits(_message.Message):
    __slots__ = ("max_frame_bytes", "max_image_pixels", "max_network_pixels", "max_elements")
    MAX_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_NETWORK_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    max_frame_bytes: int
    max_image_pixels: int
    max_network_pixels: int
    max_elements: int
    def __init__(self, max_frame_bytes: _Optional[int] = ..., max_image_pixels: _Optional[int] = ..., max_network_pixels: _Optional[int] = ..., max_elements: _Optional[int] = ...) -> None: ...

class InferRequest(_message.Message):
    __slots__ = ("request_id", "frame", "partial", "odam_nms")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    ODAM_NMS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    frame: bytes
    partial: bool
    odam_nms: bool
    def __init__(self, request_id: _Optional[str] = ..., frame: _Optional[bytes] = ..., partial: bool = ..., odam_nms: bool = ...) -> None: ...

class InferStreamRequest(_message.Message):
    __slots__ = ("frame_id", "data", "last", "answer_within_ms", "expires_after_ms", "request_id")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    ANSWER_WITHIN_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    frame_id: int
    data: bytes
    last: bool
    answer_within_ms: int
    expires_after_ms: int
    request_id: str
    def __init__(self, frame_id: _Optional[int] = ..., data: _Optional[bytes] = ..., last: bool = ..., answer_within_ms: _Optional[int] = ..., expires_after_ms: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class InferStreamResponse(_message.Message):
    __slots__ = ("frame_id", "answer", "error", "credits")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    frame_id: int
    answer: InferResponse
    error: FrameError
    credits: int
    def __init__(self, frame_id: _Optional[int] = ..., answer: _Optional[_Union[InferResponse, _Mapping]] = ..., error: _Optional[_Union[FrameError, _Mapping]] = ..., credits: _Optional[int] = ...) -> None: ...

class FrameError(_message.Message):
    __slots__ = ("name", "message", "retry_after_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    message: str
    retry_after_ms: int
    def __init__(self, name: _Optional[str] = ..., message: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class InferResponse(_message.Message):
    __slots__ = ("request_id", "detections", "levels_used", "levels_recovered", "levels_ignored", "timings", "image_size", "odam_nms")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    LEVELS_USED_FIELD_NUMBER: _ClassVar[int]
    LEVELS_RECOVERED_FIELD_NUMBER: _ClassVar[int]
    LEVELS_IGNORED_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    ODAM_NMS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    detections: _containers.RepeatedCompositeFieldContainer[Detection]
    levels_used: _containers.RepeatedScalarFieldContainer[str]
    levels_recovered: _containers.RepeatedScalarFieldContainer[str]
    levels_ignored: _containers.RepeatedCompositeFieldContainer[IgnoredLevel]
    timings: ServerTimings
    image_size: ImageSize
    odam_nms: bool
    def __init__(self, request_id: _Optional[str] = ..., detections: _Optional[_Iterable[_Union[Detection, _Mapping]]] = ..., levels_used: _Optional[_Iterable[str]] = ..., levels_recovered: _Optional[_Iterable[str]] = ..., levels_ignored: _Optional[_Iterable[_Union[IgnoredLevel, _Mapping]]] = ..., timings: _Optional[_Union[ServerTimings, _Mapping]] = ..., image_size: _Optional[_Union[ImageSize, _Mapping]] = ..., odam_nms: bool = ...) -> None: ...

class Detection(_message.Message):
    __slots__ = ("x1", "y1", "x2", "y2", "score", "label", "mask")
    X1_FIELD_NUMBER: _ClassVar[int]
    Y1_FIELD_NUMBER: _ClassVar[int]
    X2_FIELD_NUMBER: _ClassVar[int]
    Y2_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    x1: float
    y1: float
    x2: float
    y2: float
    score: float
    label: int
    mask: Mask
    def __init__(self, x1: _Optional[float] = ..., y1: _Optional[float] = ..., x2: _Optional[float] = ..., y2: _Optional[float] = ..., score: _Optional[float] = ..., label: _Optional[int] = ..., mask: _Optional[_Union[Mask, _Mapping]] = ...) -> None: ...

class Mask(_message.Message):
    __slots__ = ("left", "top", "png")
    LEFT_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    PNG_FIELD_NUMBER: _ClassVar[int]
    left: int
    top: int
    png: bytes
    def __init__(self, left: _Optional[int] = ..., top: _Optional[int] = ..., png: _Optional[bytes] = ...) -> None: ...

class ImageSize(_message.Message):
    __slots__ = ("width", "height")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class IgnoredLevel(_message.Message):
    __slots__ = ("name", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ServerTimings(_message.Message):
    __slots__ = ("queue_ms", "decode_ms", "reconstruct_ms", "head_ms")
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    RECONSTRUCT_MS_FIELD_NUMBER: _ClassVar[int]
    HEAD_MS_FIELD_NUMBER: _ClassVar[int]
    queue_ms: float
    decode_ms: float
    reconstruct_ms: float
    head_ms: float
    def __init__(self, queue_ms: _Optional[float] = ..., decode_ms: _Optional[float] = ..., reconstruct_ms: _Optional[float] = ..., head_ms: _Optional[float] = ...) -> None: ...
