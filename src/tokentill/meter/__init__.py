"""The meter, for other people's programs: holds tokens before an AI call and captures what it used.

`Meter` is one call. `tokentill.meter.openai` and `.anthropic` meter every call of a client; `.litellm` and `.otel`
record calls that something else made. All of them work with a `Till` in this process and with the HTTP client alike.
None of the providers' SDKs is imported before it is asked for.
"""

from tokentill.meter.context import metering
from tokentill.meter.metered import Meter

__all__ = ["Meter", "metering"]
