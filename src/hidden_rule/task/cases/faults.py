"""A setting of the config's section `data` that does not fit the file of cases."""


class CaseSettingError(Exception):
    """`key` of the section `data`, dotted; what is wrong, and what would be right."""

    def __init__(self, key: str, fault: str, remedy: str):
        super().__init__(key, fault, remedy)
        self.key, self.fault, self.remedy = key, fault, remedy
