/* See formats.h. */
#include "formats.h"

struct pref_params formats_from(const struct format_args *args) {
    return (struct pref_params){.format = (enum genarm_data_format)args->format,
                                .label = (enum genarm_data_label)args->label};
}
