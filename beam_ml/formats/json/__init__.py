"""JSON: messages."""

from beam_ml.formats.json.messages import Options, message_decoder, message_encoder

__all__ = ["Options", "message_decoder", "message_encoder"]
