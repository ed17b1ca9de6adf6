/* Which handler answers what. The description of all of it for machines is openapi.json. */
#include "serve/api.h"

const struct http_route server_routes[] = {
    {"GET", "/health", api_health, true},
    {"GET", "/v1/health", api_health, true},
    {"GET", "/openapi.json", api_openapi, true},
    {"GET", "/metrics", api_metrics, false},
    {"GET", "/props", api_props, false},
    {"GET", "/v1/models", api_models, false},
    {"GET", "/models", api_models, false},
    {"GET", "/v1/models/**", api_model, false},
    {"GET", "/slots", api_slots, false},
    {"GET", "/arms", api_arms, false},
    {"POST", "/arms", api_set_arms, false},
    {"POST", "/v1/requests/*/arms", api_set_request_arms, false},
    {"POST", "/v1/chat/completions", api_chat, false},
    {"POST", "/chat/completions", api_chat, false},
    {"POST", "/v1/completions", api_completions, false},
    {"POST", "/completion", api_completion, false},
    {"POST", "/completions", api_completion, false},
    {"POST", "/v1/score", api_score, false},
    {"POST", "/tokenize", api_tokenize, false},
    {"POST", "/detokenize", api_detokenize, false},
    {"POST", "/apply-template", api_apply_template, false},
    {"GET", "/", api_ui, true},
    {"GET", "/*", api_ui, true},
};
const size_t n_server_routes = sizeof server_routes / sizeof *server_routes;
