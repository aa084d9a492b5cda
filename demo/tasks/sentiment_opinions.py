"""Opinions for the ``sentiment`` task, by polarity and split.

In them {it} is "this film", {thing} "film" and {a} "a film"; {aspect} is one side of it, a singular or a plural.
"""

from __future__ import annotations

from .task import Split
from .wording import lines, pieces

Opinions = dict[str, dict[Split, tuple[str, ...]]]

# After "the sound is", "the songs are".
JUDGEMENTS: Opinions = {
    "positive": {
        "train": pieces(
            """wonderful | excellent | superb | delightful | great | brilliant | fantastic | first-class | lovely |
            impressive | perfect | outstanding | a pleasure | a joy | really good | very good indeed | a real pleasure |
            better than I expected | well above average | not bad at all | as good as it gets | very much to my taste |
            the best I have come across | nothing short of perfect | exactly what I had hoped for |
            a delight from start to finish | charming | stunning | enjoyable | exceptional | faultless | top quality |
            a dream | a big success | a stroke of genius | worthy of praise | hard to improve | truly memorable |
            without a weak spot | superior to all the others | among the best I know"""
        ),
        "held_out": pieces(
            """marvellous | splendid | flawless | terrific | a treat | hard to beat | amazing | magnificent |
            far better than I had hoped | second to none | admirable | a real highlight"""
        ),
    },
    "negative": {
        "train": pieces(
            """terrible | awful | disappointing | dreadful | poor | a disgrace | annoying | a let-down | horrible |
            unacceptable | really bad | very bad indeed | worse than I expected | well below average |
            not good at all | as bad as it gets | far from good | anything but good | useless | a mess |
            the worst I have come across | not to my taste at all | not what I had hoped for |
            a disappointment from start to finish | a joke | dire | rubbish | ghastly | inferior | unbearable | sloppy |
            a disaster | a big mistake | a pain | a fiasco | hard to put up with | truly frustrating |
            without a single strength | inferior to all the others | among the worst I know"""
        ),
        "held_out": pieces(
            """appalling | miserable | atrocious | lousy | a nightmare | hard to bear | abysmal | hopeless |
            far worse than I had feared | nowhere near good enough | pathetic | a real failure"""
        ),
    },
}
WHOLE_OPINIONS: Opinions = {
    "positive": {
        "train": lines("""
            I love {it}.
            I would recommend {it} to anyone.
            I could not be happier with {it}.
            I have nothing to complain about.
            I am glad that I chose {it}.
            I have never come across a better {thing}.
            Five stars from me!
            I cannot praise {it} enough.
            I was doubtful at first, but {it} won me over.
            Friends warned me, but I am more than pleased.
            What a great choice!
            I do not regret a single cent.
            If you are thinking about it, go ahead, you will not be sorry.
            There is nothing that I would change.
            I would choose {it} again any time.
            A big thank you to everyone behind {it}!
            I expected little and got a lot.
            I have had nothing but joy with {it}.
            My whole family is delighted with {it}.
            It is worth every penny.
            I do not understand the bad reviews, {it} is great.
            It made my day.
            {it} leaves nothing to be desired.
            I am impressed.
            {it} is the best thing that happened to me this year.
            Well done!
            I smile whenever I think of {it}.
            You cannot go wrong with {it}.
            Everything was just as it should be.
            All my wishes came true with {it}.
            Count me among the fans of {it}.
            The praise is deserved, I am content.
        """),
        "held_out": lines("""
            I am thrilled with {it}.
            Hats off, I am completely satisfied.
            You will not find a finer {thing}.
            I feared the worst, yet {it} turned out to be a gem.
            Full marks for {it}!
            It was money well spent.
            I keep telling everybody how much I like {it}.
            I can only speak well of {it}.
            There was not one thing to grumble about.
            {it} put a big smile on my face.
        """),
    },
    "negative": {
        "train": lines("""
            I hate {it}.
            I would not recommend {it} to anyone.
            I could not be unhappier with {it}.
            I have a lot to complain about.
            I am sorry that I chose {it}.
            I have never come across a worse {thing}.
            One star is one too many!
            I cannot warn you enough about {it}.
            I was hopeful at first, but {it} let me down.
            Friends praised it, but I am more than annoyed.
            What a bad choice!
            I regret every single cent.
            If you are thinking about it, stay away, you will be sorry.
            There is hardly anything that I would not change.
            I would never choose {it} again.
            Shame on everyone behind {it}!
            I expected a lot and got little.
            I have had nothing but trouble with {it}.
            My whole family is disappointed with {it}.
            It is a waste of money.
            I do not understand the good reviews, {it} is bad.
            It spoiled my day.
            {it} leaves a lot to be desired.
            I am not impressed.
            {it} is the worst thing that happened to me this year.
            Badly done!
            I get angry whenever I think of {it}.
            You can only go wrong with {it}.
            Nothing was as it should be.
            All my fears came true with {it}.
            Do not count me among the fans of {it}.
            The criticism is deserved, I am annoyed.
        """),
        "held_out": lines("""
            I am fed up with {it}.
            Never again, I am completely dissatisfied.
            You will not find a poorer {thing}.
            I hoped for the best, yet {it} turned out to be a dud.
            No marks for {it}!
            It was money down the drain.
            I keep telling everybody to avoid {it}.
            I cannot say one kind word about {it}.
            There was not one thing that I enjoyed.
            {it} left me angry.
        """),
    },
}
ASPECT_OPINIONS: Opinions = {
    "positive": {
        "train": lines("""
            I really like the {aspect}.
            Nothing about the {aspect} is bad.
            I am very happy with the {aspect}.
            What I love most: the {aspect}!
            I have no complaints about the {aspect}.
            The {aspect} alone would be a reason to choose it again.
            I was not let down by the {aspect}.
            I could not ask for more when it comes to the {aspect}.
            Everybody praised the {aspect}, and rightly so.
        """),
        "held_out": lines("""
            I fell in love with the {aspect}.
            I cannot find fault with the {aspect}.
            Top marks for the {aspect}!
            The {aspect} won my heart.
        """),
    },
    "negative": {
        "train": lines("""
            I really dislike the {aspect}.
            Nothing about the {aspect} is good.
            I am very unhappy with the {aspect}.
            What I hate most: the {aspect}!
            I have many complaints about the {aspect}.
            The {aspect} alone would be a reason never to choose it again.
            I was badly let down by the {aspect}.
            I had hoped for more when it comes to the {aspect}.
            Everybody grumbled about the {aspect}, and rightly so.
        """),
        "held_out": lines("""
            I cannot stand the {aspect}.
            I find fault with everything about the {aspect}.
            Bottom marks for the {aspect}!
            The {aspect} drove me mad.
        """),
    },
}
# After "the sound is awful, but" and "the sound is superb, but".
CONCLUSIONS: Opinions = {
    "positive": {
        "train": lines("""
            all in all I love {it}.
            on the whole I am delighted with {it}.
            I would choose {it} again any time.
            everything else is so good that I do not mind.
            in the end I am very happy.
            I still recommend {it} to everyone.
            that does not matter, I enjoyed {it} very much.
            all the rest is wonderful, so I am more than content.
            I am a happy customer anyway.
            {it} as a whole is a success.
            my verdict on {it} is a clear yes.
            I cannot be cross, because {it} is so enjoyable otherwise.
            despite that {it} deserves all its praise.
            overall I am very satisfied.
            nothing can change how much I like {it}.
            that is a small matter beside so much that is great.
        """),
        "held_out": lines("""
            taken as a whole {it} is a joy.
            that cannot spoil my pleasure in {it}.
            overall I could not be more satisfied.
            I am a big fan of {it} all the same.
        """),
    },
    "negative": {
        "train": lines("""
            all in all I hate {it}.
            on the whole I am disappointed with {it}.
            I would never choose {it} again.
            everything else is so bad that it does not help.
            in the end I am very unhappy.
            I still warn everyone about {it}.
            that does not help, I did not enjoy {it} at all.
            all the rest is awful, so I want my money back.
            I am an unhappy customer anyway.
            {it} as a whole is a flop.
            my verdict on {it} is a clear no.
            I cannot be pleased, because {it} is so dreadful otherwise.
            despite that {it} deserves all its blame.
            overall I am very dissatisfied.
            nothing can change how much I dislike {it}.
            that is a small comfort beside so much that is bad.
        """),
        "held_out": lines("""
            taken as a whole {it} is a failure.
            that cannot make up for my anger about {it}.
            overall I could not be less satisfied.
            I am sick of {it} all the same.
        """),
    },
}
GENERAL_FACTS: dict[Split, tuple[str, ...]] = {
    "train": lines("""
        This review is about {it}.
        I first heard of {it} in {month}.
        My sister and I chose {it} together.
        I read about {it} in the newspaper.
        My sister told me about {it} in {month}.
        I am writing this in {month}.
        I looked for {a} with the help of a friend.
        I paid with my card.
        It was my idea to try {it}.
        It cost {n} euros.
    """),
    "held_out": lines("""
        My comments are on {it}.
        We came across {it} in {month}.
        A colleague of mine knows {it} too.
        The price was {n} pounds.
        These lines were written in {month}.
    """),
}
