"""Human review: a held task waits as a row, holding no worker, until what people say sends it on or ends it."""

from callstream.agents.review.desk import ReviewDesk as ReviewDesk
from callstream.agents.review.fold import held_event as held_event
from callstream.agents.review.fold import held_row as held_row
from callstream.agents.review.fold import held_subject as held_subject
from callstream.agents.review.fold import refusal as refusal
from callstream.agents.review.lease import living as living
from callstream.agents.review.said import Choice as Choice
from callstream.agents.review.said import Claim as Claim
from callstream.agents.review.said import Command as Command
from callstream.agents.review.said import Release as Release
from callstream.agents.review.said import Verdict as Verdict
from callstream.agents.review.said import command_event as command_event
from callstream.agents.review.said import said_in as said_in
