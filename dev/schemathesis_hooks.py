"""What the API's document cannot say: requests that it allows are made such that the API does, too."""

import uuid

import schemathesis


def sayable(value):
    """No NUL characters in custom fields, and no year 0."""
    if isinstance(value, dict):
        return {sayable(name): sayable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [sayable(inner) for inner in value]
    if isinstance(value, str):
        value = value.replace("\0", "")
        return "0001-" + value[5:] if value.startswith("0000-") else value
    return value


@schemathesis.hook
def before_call(context, case, kwargs):
    # An id that was null in an answer leads nowhere.
    for name, value in (case.path_parameters or {}).items():
        if value in (None, "None"):
            case.path_parameters[name] = str(uuid.uuid4())
    if not (case.meta and case.meta.generation.mode.is_positive):
        return
    if isinstance(case.body, dict):
        case.body = sayable(case.body)
    if case.query:
        # Cursors are made by the API: one that was made up is rightly refused.
        case.query.pop("cursor", None)
        # A null that was found in an answer is no value to ask for.
        wanted = {name: value for name, value in case.query.items() if value not in (None, [], [None])}
        case.query = sayable(wanted)
