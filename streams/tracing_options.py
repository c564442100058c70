"""Whether, where to and how many traces are sent: read by every command, without the tracer."""

from pydantic import BaseModel, ConfigDict, Field


class TracingOptions(BaseModel):
    """Whether, where to and how many traces are sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=False, description="send spans; without it trace ids are still made and handed on")
    agent_host: str = Field(default="127.0.0.1", min_length=1, max_length=253, description="Jaeger agent's host")
    agent_port: int = Field(default=6831, ge=1, le=65535, description="Jaeger agent's UDP port (compact thrift)")
    sample_rate: float = Field(default=1.0, ge=0, le=1, description="share of new traces that are sampled")
    queue_spans: int = Field(default=2000, ge=10, le=1_000_000, description="ended spans kept until sent; more drop")
    flush_seconds: float = Field(default=0.5, gt=0, le=60, description="longest wait before ended spans are sent")
    packet_bytes: int = Field(default=60_000, ge=1000, le=65_000, description="largest UDP packet")
    tag_chars: int = Field(default=256, ge=16, le=8192, description="longest tag value; what is longer is cut")
    close_seconds: float = Field(default=2, ge=0, le=60, description="longest wait for the last spans at the end")
