"""Where alerts go, as Dagster resources: a chat, a web service, a mailbox."""

import smtplib
import ssl
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from typing import Any

import dagster as dg
import requests
from pydantic import Field

_HIDDEN = "Give it as `dg.EnvVar(...)`: it is then read when an alert is sent, and never shown."
_SECONDS = 20.0  # for a target to answer; a sensor's tick must end


@dataclass(frozen=True)
class Alert:
    """One thing that is wrong with a replication. name: the same for as long as it lasts."""

    name: str
    text: str


@dataclass(frozen=True)
class News:
    """What has begun to be wrong since the last news, and what has ended."""

    replication: str
    begun: Sequence[Alert]
    ended: Sequence[Alert]

    @property
    def title(self) -> str:
        """One line."""
        counts = ((len(self.begun), "new"), (len(self.ended), "over"))
        return f"{self.replication}: {', '.join(f'{n} {what}' for n, what in counts if n)}"

    @property
    def lines(self) -> list[str]:
        """One for each alert."""
        begun = [f"ALERT  {alert.name}: {alert.text}" for alert in self.begun]
        return begun + [f"over   {alert.name}" for alert in self.ended]


class AlertTarget(dg.ConfigurableResource[Any], ABC):
    """Something that can be told. An error it raises fails the tick, which is then repeated."""

    @abstractmethod
    def send(self, news: News) -> None:
        """Deliver, or raise."""


class WebhookAlerts(AlertTarget):
    """A web service that takes a POST of JSON: replication, title, begun and ended alerts."""

    url: str = Field(description=_HIDDEN)
    headers: dict[str, str] = Field(default={}, description="Sent along, such as Authorization.")

    def send(self, news: News) -> None:
        body = {"title": news.title, **asdict(news)}
        _post(self.url, body, self.headers)


class SlackAlerts(AlertTarget):
    """A channel, by the address of an incoming webhook of Slack (or Mattermost)."""

    url: str = Field(description=_HIDDEN)

    def send(self, news: News) -> None:
        text = "\n".join(news.lines)
        _post(self.url, {"text": f"*{news.title}*\n```{text}```"}, {})


class EmailAlerts(AlertTarget):
    """Mailboxes, through an SMTP server."""

    host: str
    port: int = 587
    sender: str
    recipients: list[str]
    user: str | None = None
    password: str | None = Field(default=None, description=_HIDDEN)
    starttls: bool = Field(default=True, description="Encrypt, and verify the server.")

    def send(self, news: News) -> None:
        message = EmailMessage()
        message["Subject"] = news.title
        message["From"] = self.sender
        message["To"] = ", ".join(self.recipients)
        message.set_content("\n".join(news.lines))
        with smtplib.SMTP(self.host, self.port, timeout=_SECONDS) as server:
            if self.starttls:
                server.starttls(context=ssl.create_default_context())
            if self.user:
                server.login(self.user, self.password or "")
            server.send_message(message)


def _post(url: str, body: dict[str, Any], headers: dict[str, str]) -> None:
    """A refusal names no address, which is often a secret itself."""
    try:
        answer = requests.post(url, json=body, headers=headers, timeout=_SECONDS)
    except requests.RequestException as error:
        raise ConnectionError(f"The alert was not delivered: {type(error).__name__}.") from None
    if not answer.ok:
        raise ConnectionError(f"The alert was refused: {answer.status_code} {answer.reason}.")
