"""What somebody may have meant who typed a name that does not exist."""


def nearest(name, known, most=1, cutoff=0.6):
    """Those of the known names that are closest, the closest first."""
    import difflib  # Only for who mistyped: `import tfdefense` stays light.

    return difflib.get_close_matches(str(name), list(known), n=most, cutoff=cutoff)


def did_you_mean(name, known):
    """A sentence to put behind an error, with a blank before it; nothing where no name is close."""
    return "".join(f" Did you mean `{near}`?" for near in nearest(name, known))
