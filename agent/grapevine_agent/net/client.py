"""paho's client with what ours needs of it: word of its thread's end, and packet ids that nothing under way has."""

from __future__ import annotations

from collections.abc import Callable

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode


class Client(mqtt.Client):
    """A paho client whose network thread tells when and why it ended, whatever happened in it."""

    when_over: Callable[[BaseException | None], None] | None = None
    is_under_way: Callable[[int], bool] | None = None

    def _mid_generate(self) -> int:
        """The next packet id that nothing under way has: paho's count comes round after 65,535."""
        while True:
            mid = super()._mid_generate()
            if self.is_under_way is None or not self.is_under_way(mid):
                return mid

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:  # noqa: ARG002
        """Run the network thread: paho's own would swallow a failed first connection, and try again."""
        error: BaseException | None = None
        try:
            return super().loop_forever(timeout, retry_first_connection=False)
        except Exception as failure:  # a broker's bytes can be anything, and paho's parser trusts them
            error = failure
            return MQTTErrorCode.MQTT_ERR_UNKNOWN
        finally:
            if self.when_over is not None:
                self.when_over(error)
