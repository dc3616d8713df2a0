"""The social security card as a document to read, over any link to a card."""

from yikatong.drivers.card.authentication import Authenticator, CardAtHand, OpenedCard
from yikatong.drivers.card.document import SocialSecurityCard

__all__ = ["Authenticator", "CardAtHand", "OpenedCard", "SocialSecurityCard"]
