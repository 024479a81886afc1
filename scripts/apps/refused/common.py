"""What the programs of this directory share."""


def refused(kind, text, action):
    """The action must fail with this error. Returns the error's text, up to the text looked for."""
    try:
        action()
    except kind as error:
        said = str(error)
        assert text in said, f"the error says {said}, wanted {text}"
        return said[:said.index(text) + len(text)]
    raise AssertionError(f"no error: it works; {text!r} was expected")
