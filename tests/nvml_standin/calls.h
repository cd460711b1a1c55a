/* What every entry point of the NVML stand-in begins and ends with. */
#ifndef ALIQUOT_NVML_CALLS_H
#define ALIQUOT_NVML_CALLS_H

#include "scenario.h"

#define API __attribute__((visibility("default")))
typedef int Return;
typedef struct handle { char uuid[UUID_LENGTH]; } *Handle;

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3,
    NO_PERMISSION = 4, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15,
    VERSION_MISMATCH = 25, UNKNOWN = 999
};

extern int nvml_initialised; /* counted, as nvmlInit is */

/* Take the lock, obey a rule of the scenario, refuse before nvmlInit. */
#define ENTER_FOR(uuid)                                             \
    int forced = scenario_enter(__func__, uuid);                    \
    if (forced != NOT_FORCED || !nvml_initialised)                  \
        return leave(forced != NOT_FORCED ? forced : UNINITIALIZED)
#define ENTER() ENTER_FOR(NULL)
/* ... and find the device behind a handle, as `device`. */
#define ENTER_DEVICE(handle)                                        \
    ENTER_FOR((handle) ? (handle)->uuid : NULL);                    \
    if (!(handle)) return leave(INVALID_ARGUMENT);                  \
    struct device *device = device_by_uuid((handle)->uuid);         \
    if (!device) return leave(GPU_IS_LOST)
#define IS_MIG(device) ((device)->parent >= 0)

static inline Return leave(Return code) { scenario_leave(); return code; }

static inline Return give(unsigned *to, unsigned number)
{
    if (to) *to = number;
    return leave(to ? SUCCESS : INVALID_ARGUMENT);
}

#endif
