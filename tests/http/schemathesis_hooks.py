"""For clients.sh: what a description cannot say of one server, so that every request made of it has an answer."""
import schemathesis

# Of the same form for all servers, but with a meaning: made up at random, they would be no grammar, and no ARM's name.
MEANT = {
    "grammar": {"enum": ['root ::= "yes" | "no"', None]},
    "json_schema": None,  # not beside a grammar
    "response_format": {"enum": [{"type": "text"}, None]},
    "preferences": {"enum": [{}, None]},
    "arm_schedules": {"enum": [{}, {"helpful": [[0, 1], [8, 0]]}, None]},
    "stream_options": {"enum": [None]},  # only of streams
    "top_logprobs": {"enum": [None]},  # only with logprobs
    "best_of": {"enum": [None]},  # only as n
}
ARMS = ["helpful", "harmless"]
N_VOCAB = 301  # of the tiny models


@schemathesis.hook
def before_load_schema(context, raw_schema):
    schemas = raw_schema["components"]["schemas"]
    weight = schemas["Weights"].pop("additionalProperties")
    schemas["Weights"].update(properties={name: weight for name in ARMS}, additionalProperties=False)
    by_id, by_name = schemas["NewArm"]["oneOf"]
    by_id["properties"]["id"]["maximum"] = len(ARMS) - 1
    by_name["properties"]["name"] = {"enum": ARMS}
    schemas["TokenId"]["maximum"] = N_VOCAB - 1
    schemas["Message"]["properties"]["role"] = {"enum": ["system", "developer", "user"]}  # the last one is not the assistant's
    biases = schemas["LogitBias"]["oneOf"][0]
    biases["patternProperties"] = {"^[0-9]{1,2}$": value for value in biases["patternProperties"].values()}
    for request in (schema["properties"] for name, schema in schemas.items() if name.endswith("Request")):
        for name, meant in MEANT.items():
            if name in request and meant:
                request[name] = meant
            elif name in request:
                del request[name]


def fits(value):
    """Whether each integer has 64 bits and no text a zero character: JSON knows no such limits, Jansson does, also in what is
    ignored."""
    if isinstance(value, (list, dict)):
        return all(map(fits, [*value, *value.values()] if isinstance(value, dict) else value))
    if isinstance(value, str):
        return "\0" not in value
    return not isinstance(value, int) or -2**63 <= value < 2**63


@schemathesis.hook
def filter_body(context, body):
    return fits(body)
