"""Ways to ask for a sum: plain questions, and stories with people and things."""

from __future__ import annotations

from .task import Split
from .wording import lines

NAMES: dict[Split, tuple[str, ...]] = {
    "train": tuple(
        "Ann Ben Carla David Emma Farid Grace Hugo Ivy Jamal Karin Leo Maya Noah Olga Pedro Rosa Samir Tom Vera Wei "
        "Yusuf Zoe Anton Bella Chen Diego Ella Fatima Greta".split()
    ),
    "held_out": tuple("Amir Clara Dora Felix Hanna Ines Jonas Kofi Lena Milan Nina Otto Priya Rafael".split()),
}
THINGS: dict[Split, tuple[str, ...]] = {
    "train": tuple(
        "apple pear egg book pencil stamp coin marble shell card ticket photo button bead balloon cup plate candle "
        "orange lemon plum sticker stone letter sweet biscuit key nail flower sock".split()
    ),
    "held_out": tuple("peach walnut brush ribbon badge carrot spoon feather magnet cookie crayon postcard".split()),
}

# {a} and {b} are the numbers in words, always in the order in which the sum takes them.
PLAIN: dict[str, tuple[str, ...]] = {
    "plus": lines("""
        What is {a} plus {b}?
        {a} plus {b}
        {a} and {b} make what?
        {a} plus {b} is what?
        How much is {a} and {b}?
        How much is {a} plus {b}?
        Add {b} to {a}.
        Add {a} and {b}.
        What is the sum of {a} and {b}?
        What do {a} and {b} make together?
        What number is {b} more than {a}?
        If you add {b} to {a}, what do you get?
        I start at {a} and count up {b}. Where do I end?
        Take {a} and add {b}.
        Which number do you reach if you go up {b} from {a}?
    """),
    "minus": lines("""
        What is {a} minus {b}?
        {a} minus {b}
        {a} take away {b}
        {a} minus {b} is what?
        How much is {a} less {b}?
        How much is {a} minus {b}?
        Subtract {b} from {a}.
        Take {b} away from {a}.
        What is left if you take {b} from {a}?
        What number is {b} less than {a}?
        What is the difference between {a} and {b}?
        If you subtract {b} from {a}, what do you get?
        I start at {a} and count down {b}. Where do I end?
        What must be added to {b} to make {a}?
        Which number do you reach if you go down {b} from {a}?
    """),
    "times": lines("""
        What is {a} times {b}?
        {a} times {b}
        {a} multiplied by {b}
        {a} times {b} is what?
        How much is {a} times {b}?
        Multiply {a} by {b}.
        What is {a} multiplied by {b}?
        What is the product of {a} and {b}?
        If you multiply {a} by {b}, what do you get?
        What do you get from {a} times {b}?
        Work out {a} times {b}.
        Tell me {a} times {b}.
    """),
}
STORIES: dict[str, tuple[str, ...]] = {
    "plus": lines("""
        {name} has {a} {things} and buys {b} more. How many {things} does {name} have now?
        {name} has {a} {things} and gets {b} more from {other}. How many {things} does {name} have now?
        {name} has {a} {things} and {other} has {b}. How many {things} do they have together?
        There are {a} {things} in a box. {name} puts in {b} more. How many {things} are in the box now?
        {name} found {a} {things} yesterday and {b} today. How many {things} is that in all?
        {a} {things} are on the table and {b} are on the floor. How many {things} are there?
        {name} sold {a} {things} on Monday and {b} on Tuesday. How many {things} did {name} sell?
        A red bag holds {a} {things} and a blue bag holds {b}. How many {things} do the bags hold?
        {name} needs {a} {things} and {other} needs {b}. How many {things} must they bring?
        First {name} counts {a} {things}, then {b} more. How many {things} are there?
        {name} took {a} {things}, and {b} were left. How many {things} were there before?
    """),
    "minus": lines("""
        {name} has {a} {things} and gives {b} to {other}. How many {things} does {name} have left?
        {name} has {a} {things} and loses {b}. How many {things} are left?
        There are {a} {things} in a box. {name} takes out {b}. How many {things} stay in the box?
        Of {a} {things}, {b} are damaged. How many {things} are not damaged?
        {name} has {a} {things} and {other} has {b}. How many more {things} does {name} have?
        {name} wants {a} {things} and has {b}. How many {things} are missing?
        A shop had {a} {things} and sold {b}. How many {things} does it still have?
        {a} {things} are on the table. {name} takes {b} away. How many {things} are still there?
        {name} brought {a} {things} and {other} used {b} of them. How many {things} remain?
        Out of {a} {things}, {b} belong to {name} and the others to {other}. How many {things} does {other} have?
    """),
    "times": lines("""
        {name} buys {a} boxes with {b} {things} each. How many {things} is that?
        There are {a} bags with {b} {things} in each. How many {things} are there?
        {name} has {a} rows of {b} {things}. How many {things} does {name} have?
        {a} children bring {b} {things} each. How many {things} do they bring?
        {name} packs {b} {things} a day for {a} days. How many {things} does {name} pack?
        Each of {a} drawers holds {b} {things}. How many {things} do the drawers hold?
        {name} fills {a} jars with {b} {things} each. How many {things} are in the jars?
    """),
}
