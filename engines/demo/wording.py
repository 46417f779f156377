"""The tables behind `phrase`: forms of a question and what they can become, openings, endings, keys.

Text blocks, because they are lists of phrases to read and to add to. In `REWORDINGS` a line without
indentation is a regular expression; the indented lines under it, cut at ` | `, are what a match may become.
"""

REWORDINGS = r"""
^(?:What is|What are|What's|Explain|Tell me about|Define|Describe|What is meant by) (.+?)[.?]$
    What is \1? | What's \1? | whats \1 | what is \1 | \1 | \1? | \1 | And what is \1? | What about \1? |
    So what is \1? | What exactly is \1? | What on earth is \1? | I want to know what \1 is. |
    Do you know what \1 is? | What is \1 exactly? | Can you tell me what \1 is? | What is \1 about? |
    Explain \1. | Can you explain \1? | Please explain \1. | Could you explain \1 to me? | Describe \1. |
    Explain what \1 is. | explain \1 in simple words | Explain \1 like I am five. | Explain briefly \1. |
    Give me a summary of \1. | How would you explain \1? | How would you define \1? | Define \1. |
    Definition of \1 | What is the definition of \1? | \1 definition | Define: \1 | Give a definition of \1. |
    Meaning of \1 | What is meant by \1? | \1 meaning | What do you mean by \1? | What does \1 mean? |
    What is the meaning of \1? | Tell me about \1. | Talk about \1. | I want to know about \1. |
    Tell me something about \1. | What can you tell me about \1? | What do you know about \1? | About \1 |
    Tell me more about \1. | I would like to learn about \1. | Help me understand \1. | \1, what is it?
^What does (.+?) (?:mean|stand for)\?$
    What does \1 mean? | What does \1 stand for? | Meaning of \1 | What is meant by \1? | \1 meaning |
    What do you mean by \1? | What is the meaning of \1? | What is \1? | Explain \1. | Define \1. | \1? |
    What is \1 short for? | Do you know what \1 means? | Can you tell me what \1 means?
^What does (.+?) do\?$
    What \1 does | Tell me what \1 does. | What is \1 for? | What is the purpose of \1? | Explain \1. |
    What is \1? | What does \1 actually do? | Do you know what \1 does? | Why would I use \1?
^What is (.+?) (?:used )?for\?$
    What is the use of \1? | What is the purpose of \1? | Why use \1? | What does \1 do? | What good is \1?
^How (?:do|can|should|would) I (.+?)\?$
    How do I \1? | How can I \1? | How to \1? | How would I \1? | How do you \1? | how to \1 | How do we \1? |
    How does one \1? | I want to \1. | I need to \1. | How should I \1? | Can you show me how to \1? |
    What is the way to \1? | Is there a way to \1? | Can I \1? | How could I \1? | What do I do to \1? |
    I would like to \1. | Tell me how to \1. | Explain how to \1. | how can you \1
^Why (?:do|did|am) I (?:get|getting|see) (.+?)\?$
    Why am I getting \1? | I get \1, why? | I got \1. | What causes \1? | Why do I see \1? | \1, why?
^What (?:happens )?(?:if|when) (.+?)\?$
    What if \1? | What happens if \1? | What happens when \1? | What will happen when \1? |
    What is going to happen if \1? | Tell me what happens when \1. | And if \1? | What would happen if \1?
^How (?:does|do) (.+?) work\?$
    How do \1 work? | How does \1 work? | Explain how \1 works. | How \1 works | \1, how does it work? |
    Can you explain how \1 works? | What is \1? | Explain \1. | Tell me about \1. | Tell me how \1 works.
^(?:Does|Can) (?:Penstock|it) (?:support|work with|use) (.+?)\?$
    Does Penstock support \1? | Does it support \1? | Does Penstock work with \1? | Does it work with \1? |
    Can Penstock use \1? | Is \1 supported? | Can I use \1? | Is there support for \1? |
    Will it work with \1? | Can I use \1 with Penstock? | Does Penstock use \1? | \1 support
^(?:Is|Are) (.+?) supported\?$
    Does Penstock support \1? | Does it support \1? | Can I use \1? | Is there support for \1? | \1 support |
    Does it work with \1? | Is \1 available? | Are \1 supported? | Is \1 supported in Penstock?
^(?:Does|Can|Will) (?:Penstock|it) (.+?)\?$
    Does Penstock \1? | Can Penstock \1? | Will Penstock \1? | I wonder if Penstock can \1. | Does it \1? |
    Is Penstock able to \1? | Can it \1? | Is it able to \1?
^Can I (.+?)\?$
    Is it possible to \1? | Could I \1? | May I \1? | Am I able to \1? | How can I \1? | Can you \1? |
    I want to \1. | Can we \1? | Is there a way to \1?
^(?:Which|What) (\w+s) (.+?)\?$
    Which \1 \2? | What \1 \2? | Tell me which \1 \2. | Can you tell me what \1 \2? | And which \1 \2?
^(?:List|Show me|Give me) (.+?)\.$
    List \1. | Show me \1. | Give me \1. | Show \1. | Can you list \1? | I want to see \1. | What are \1? | \1
^Are you (.+?)\?$
    Are you \1? | Are you really \1? | You are \1, right? | Tell me, are you \1? | So are you \1?
"""

# Words that may stand for one another in a question.
SYNONYMS = """
see view check|choose pick select|crash die fail|crashes dies fails|client user|answer response reply
request call query|show display list|big large|made built created|need require|several multiple many
machine computer laptop server|start launch run|begin start|stop quit exit|delete remove|deploy serve host
find locate|set configure change|slow late|quickly fast|use employ|limit cap restrict
backend engine|pod replica|error failure|fails breaks|picked chosen selected|happens occurs|text output
measured computed counted|configure set up|folder directory|describe explain|uses needs|cut truncated
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
