"""A fault at a place in the config, before it is known which file holds that place."""


class ConfigFaultError(Exception):
    """What is wrong at `path`, and what would be right there.

    `beside` are the places with which its value conflicts. Where the user wrote one of them later, in an overlay or on
    the command line, that is the file to name: a value that stands in config.yaml is at fault only by comparison.
    `anywhere`: fault and remedy read the same at each of the places.
    """

    def __init__(self, path: tuple, fault: str, remedy: str, beside: tuple[tuple, ...] = (), anywhere: bool = False):
        super().__init__(path, fault, remedy)
        self.path, self.fault, self.remedy, self.beside, self.anywhere = path, fault, remedy, beside, anywhere


def raise_if(fault: tuple | None, *beside: tuple) -> None:
    """Raise a `(path, fault, remedy)`, if there is one."""
    if fault:
        path, what, remedy = fault
        raise ConfigFaultError(path, what, remedy, beside)
