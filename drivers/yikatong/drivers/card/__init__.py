"""The social security card as a document to read, over any link to a card."""

from yikatong.drivers.card.document import Authenticator, OpenedCard, SocialSecurityCard

__all__ = ["Authenticator", "OpenedCard", "SocialSecurityCard"]
