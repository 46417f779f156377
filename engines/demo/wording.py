"""The tables behind `phrase`: forms of a question and what they can become, openings, endings, keys.

Text blocks, because they are lists of phrases to read and to add to. In `REWORDINGS` a line without
indentation is a regular expression; the indented lines under it, cut at ` | `, are what a match may become.
"""

REWORDINGS = r"""
^What is (.+?)\?$
    What's \1? | whats \1 | \1 | And what is \1? | What about \1? | \1? | So what is \1? |
    What exactly is \1? | What on earth is \1? | I want to know what \1 is. | Do you know what \1 is? |
    What is \1 exactly? | Can you tell me what \1 is? | How would you explain \1? | What is \1 about?
^What are (.+?)\?$
    \1 | And what are \1? | What about \1? | Can you tell me what \1 are?
^How do I (.+?)\?$
    How can I \1? | How to \1? | How would I \1? | How do you \1? | how to \1 | How does one \1? |
    I want to \1. | I need to \1. | How should I \1? | Can you show me how to \1? |
    What is the way to \1? | Is there a way to \1?
^How can I (.+?)\?$
    How do I \1? | How to \1? | Is there a way to \1? | Can I \1?
^Explain (.+?)\.$
    Can you explain \1? | Please explain \1. | Could you explain \1 to me? | Describe \1. |
    Explain what \1 is. | explain \1 in simple words | Explain \1 like I am five. |
    Explain briefly \1. | Give me a summary of \1.
^Tell me about (.+?)\.$
    Talk about \1. | I want to know about \1. | Tell me something about \1. |
    What can you tell me about \1? | What do you know about \1? | About \1 | Tell me more about \1. |
    I would like to learn about \1.
^Define (.+?)\.$
    Definition of \1 | What is the definition of \1? | \1 definition | Define: \1 |
    Give a definition of \1.
^What does (.+?) mean\?$
    Meaning of \1 | What is meant by \1? | \1 meaning | What do you mean by \1? |
    What is the meaning of \1?
^Why do I get (.+?)\?$
    Why am I getting \1? | I get \1, why? | I got \1. | What causes \1?
^What happens (?:if|when) (.+?)\?$
    What if \1? | What happens if \1? | What happens when \1? | What will happen when \1? |
    What is going to happen if \1?
^How does (.+?) work\?$
    How do \1 work? | Explain how \1 works. | How \1 works | \1, how does it work? |
    Can you explain how \1 works?
^(?:Does|Can) Penstock (.+?)\?$
    Does Penstock \1? | Can Penstock \1? | Will Penstock \1? | I wonder if Penstock can \1. |
    Is Penstock able to \1?
^Can I (.+?)\?$
    Is it possible to \1? | Could I \1? | May I \1? | Am I able to \1? | How can I \1?
"""

# Said before a question, and followed by a space.
OPENINGS = """
Please:|Please tell me,|Can you tell me:|Could you please tell me,|Hi,|Hello,|Hey,|Hello!|
I have a question.|Quick question:|Question:|Ok,|Okay.|So,|And|Now|Excuse me,|Sorry,|I am new here.|
Just wondering,|Tell me,|Thanks.|Well,|Hmm,|Good morning,|Actually,
"""

# Said after a question in place of its mark, separated by a space unless a comma begins it.
ENDINGS = """
please|, please|Thanks!|thanks|Thank you.|in short|briefly|in one sentence|exactly|then|again|here|for me
"""

# A letter, and the keys beside it.
NEAR_KEYS = """
asq bvn cxv dsf ewr fdg gfh hgj iuo jhk kjl lk mn nbm oip po qw ret sad try uyi vcb wqe xzc ytu zx
"""
