"""Adapts generated requests to rules of the API that the OpenAPI document cannot express."""

import re
import uuid

import schemathesis

ENTITY_TAGS = re.compile(r'\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*')


def storable(value):
    """Removes NUL characters, and replaces the year 0."""
    if isinstance(value, dict):
        return {storable(name): storable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [storable(inner) for inner in value]
    if isinstance(value, str):
        value = value.replace("\0", "")
        return "0001-" + value[5:] if value.startswith("0000-") else value
    return value


@schemathesis.hook
def before_call(context, case, kwargs):
    # Replaces ids that were null in a response.
    for name, value in (case.path_parameters or {}).items():
        if value in (None, "None"):
            case.path_parameters[name] = str(uuid.uuid4())
    if not (case.meta and case.meta.generation.mode.is_positive):
        return
    # Not every phase follows the pattern of a header.
    if case.headers and not ENTITY_TAGS.fullmatch(case.headers.get("If-Match", "*")):
        del case.headers["If-Match"]
    if isinstance(case.body, dict):
        case.body = storable(case.body)
    if case.query:
        # The API signs cursors, and rejects generated ones.
        case.query.pop("cursor", None)
        # Removes values that were null in a response.
        wanted = {name: value for name, value in case.query.items() if value not in (None, [], [None])}
        # Regex dialects differ in the pattern for a letter or digit of any script.
        if "q" in wanted and not any(character.isalnum() for character in str(wanted["q"])):
            wanted["q"] = "a"
        case.query = storable(wanted)
