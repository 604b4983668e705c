"""What loggers call their levels, as the words of syslog (and trace)."""

from __future__ import annotations

_WORDS = {
    "trace": "trace trce finest finer t trc",
    "verbose": "verbose v vrb",
    "debug": "debug dbug dbg fine d debug1 debug2 debug3 debug4 debug5",
    "info": "info inf information informational config i log statement normal",
    "notice": "notice note n",
    "warning": "warning warn wrn w",
    "error": "error err eror e severe",
    "critical": "critical crit c",
    "fatal": "fatal f ftl dpanic",
    "alert": "alert",
    "emergency": "emergency emerg panic",
}


def _in_all_cases(word: str) -> tuple[str, ...]:
    return word, word.upper(), word.capitalize()


#: A level as it is written in lines, in lower case, upper case or capitalised -> its usual name.
LEVELS: dict[str, str] = {
    written: level for level, words in _WORDS.items() for word in words.split() for written in _in_all_cases(word)
}
