/* libgenarm: train autoregressive reward models and steer a frozen language model with them while it decodes.
 *
 *   error.h   errors and the log
 *   model.h   models, adapters, vocabulary, prompt templates
 *   convert.h adapters to and from PEFT, and merged into a model or with one another
 *   guide.h   guided decoding: base + weighted ARMs, sessions, scoring
 *   steer.h   what else changes the mixture: schedules, a gate, biases, a grammar; log-probabilities of what is drawn
 *   value.h   reward models of whole responses that steer by looking ahead: ARGS, Transfer Q*
 *   stop.h    texts that end an answer
 *   data.h    formats of preference data
 *   train.h   training a LoRA ARM, a policy or a reward model from preference pairs
 *   rl.h      online reinforcement learning of a policy, for a weighted sum of rewards
 *   reward.h  trajectory-level reward models: one number for a whole response
 *   source.h  rewards of whole responses from any source: reward models, ARMs, classifiers, programs, judges
 */
#ifndef GENARM_GENARM_H
#define GENARM_GENARM_H

#include "genarm/convert.h"
#include "genarm/data.h"
#include "genarm/error.h"
#include "genarm/guide.h"
#include "genarm/model.h"
#include "genarm/reward.h"
#include "genarm/rl.h"
#include "genarm/source.h"
#include "genarm/steer.h"
#include "genarm/stop.h"
#include "genarm/train.h"
#include "genarm/value.h"

#ifdef __cplusplus
extern "C" {
#endif

const char *genarm_version(void); /* of the library that is linked, "0.1.0" */

#ifdef __cplusplus
}
#endif

#endif
