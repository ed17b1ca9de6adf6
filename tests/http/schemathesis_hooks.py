"""For clients.sh: what a description cannot say of one server, so that every request made of it has an answer."""
import schemathesis

# Of the same form for all servers, but with a meaning: made up at random, they would be no grammar, and no ARM's name.
MEANT = {
    "grammar": {"enum": ['root ::= "yes" | "no"', None]},
    "json_schema": None,  # not beside a grammar
    "response_format": {"enum": [{"type": "text"}, None]},
    "preferences": {"enum": [{}, None]},
    "stream_options": {"enum": [None]},  # only of streams
    "top_logprobs": {"enum": [None]},  # only with logprobs
    "best_of": {"enum": [None]},  # only as n
    "arm_schedules": {"enum": [{}, {"helpful": [[0, 1], [8, 0]]}, None]},
}
N_VOCAB = 300  # at least so many have the tiny models


@schemathesis.hook
def before_load_schema(context, raw_schema):
    schemas = raw_schema["components"]["schemas"]
    weight = schemas["Weights"].pop("additionalProperties")
    schemas["Weights"].update(properties={"helpful": weight, "harmless": weight}, additionalProperties=False)
    schemas["TokenId"]["maximum"] = N_VOCAB - 1
    schemas["Message"]["properties"]["role"] = {"enum": ["user"]}  # the last one is the user's
    biases = schemas["LogitBias"]["oneOf"][0]
    biases["patternProperties"] = {"^[0-9]{1,2}$": value for value in biases["patternProperties"].values()}
    for schema in schemas.values():
        for name, meant in MEANT.items():
            if name in schema.get("properties", {}):
                if meant:
                    schema["properties"][name] = meant
                else:
                    del schema["properties"][name]
