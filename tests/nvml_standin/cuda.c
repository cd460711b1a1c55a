/* libcuda.so.1 without a GPU: just enough of the driver API for a probe to see what a
 * process bound to a share would see.
 *
 * Rule: what is visible follows CUDA_VISIBLE_DEVICES as the CUDA programming guide and the
 * MIG user guide tell it; what is free follows CUDA_MPS_PINNED_DEVICE_MEM_LIMIT as the MPS
 * guide tells it, and only where the scenario says `mps on`. No memory is ever given out.
 */
#include "scenario.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define API __attribute__((visibility("default")))
typedef int Result;
typedef int Device;
typedef struct context { Device device; } *Context;
typedef struct { char bytes[16]; } Uuid;

enum {
    SUCCESS = 0, INVALID_VALUE = 1, NOT_INITIALIZED = 3, NO_DEVICE = 100,
    INVALID_DEVICE = 101, INVALID_CONTEXT = 201, UNKNOWN = 999
};
enum { MULTIPROCESSOR_COUNT = 16, CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76 };

static char visible[MAX_DEVICES][UUID_LENGTH]; /* settled by cuInit, as in CUDA */
static int visible_count, initialised;
static struct context contexts[MAX_DEVICES];
static __thread Context current;

static Result leave(Result code) { scenario_leave(); return code; }
static int is_mig(const struct device *device) { return device->parent >= 0; }

#define ENTER()                                                                    \
    int forced = scenario_enter(__func__, NULL);                                   \
    if (forced != NOT_FORCED || !initialised)                                      \
        return leave(forced != NOT_FORCED ? (forced ? UNKNOWN : SUCCESS) : NOT_INITIALIZED)

#define ENTER_DEVICE(ordinal)                                                      \
    ENTER();                                                                       \
    if ((ordinal) < 0 || (ordinal) >= visible_count) return leave(INVALID_DEVICE); \
    struct device *device = device_by_uuid(visible[ordinal]);                      \
    if (!device) return leave(INVALID_DEVICE)

/* One entry: an index, or the beginning of a GPU's or MIG device's UUID. */
static struct device *device_meant_by(const char *entry)
{
    char *end;
    unsigned long index = strtoul(entry, &end, 10);
    if (end != entry && !*end) return gpu_by_index((unsigned)index);
    if (strncmp(entry, "GPU-", 4) && strncmp(entry, "MIG-", 4)) return NULL;
    for (int i = 0; i < scene.device_count; i++)
        if (!strncmp(scene.devices[i].uuid, entry, strlen(entry))) return &scene.devices[i];
    return NULL;
}

static int see(struct device *device)
{
    if (!is_mig(device) && device->mig_mode == 1) device = mig_by_index(device, 0);
    if (!device) return 1; /* a GPU in MIG mode without instances cannot be used */
    for (int i = 0; i < visible_count; i++)
        if (!strcmp(visible[i], device->uuid)) return 0; /* named twice: refused */
    copy_text(visible[visible_count++], UUID_LENGTH, device->uuid);
    return 1;
}

static void settle_visible_devices(void)
{
    const char *wanted = getenv("CUDA_VISIBLE_DEVICES");
    char list[4096];
    visible_count = 0;
    if (!wanted) {
        for (unsigned i = 0; (int)i < gpu_count(); i++) see(gpu_by_index(i));
    } else if (copy_text(list, sizeof list, wanted)) {
        char *rest = list, *entry;
        while ((entry = strsep(&rest, ","))) {
            struct device *device = device_meant_by(entry);
            if (!device) break; /* an unknown entry hides itself and all after it */
            if (!see(device)) { visible_count = 0; break; }
        }
    }
    /* CUDA uses a single MIG device, and then nothing else. */
    for (int i = 0; i < visible_count; i++)
        if (!strncmp(visible[i], "MIG-", 4)) {
            memmove(visible[0], visible[i], UUID_LENGTH);
            visible_count = 1;
        }
}

API Result cuInit(unsigned flags)
{
    int forced = scenario_enter(__func__, NULL);
    if (forced > 0 || flags) return leave(flags ? INVALID_VALUE : UNKNOWN);
    if (!initialised) settle_visible_devices();
    if (!visible_count) return leave(NO_DEVICE);
    initialised = 1;
    return leave(SUCCESS);
}

API Result cuDriverGetVersion(int *version)
{
    int forced = scenario_enter(__func__, NULL);
    *version = scene.cuda;
    return leave(forced > 0 ? UNKNOWN : SUCCESS);
}

API Result cuGetErrorString(Result code, const char **words)
{
    *words = code == SUCCESS ? "no error"
           : code == NO_DEVICE ? "no CUDA-capable device is detected"
           : code == NOT_INITIALIZED ? "initialization error"
           : code == INVALID_DEVICE ? "invalid device ordinal"
           : code == INVALID_CONTEXT ? "invalid device context"
           : code == INVALID_VALUE ? "invalid argument" : "unknown error";
    return SUCCESS;
}

API Result cuDeviceGetCount(int *count) { ENTER(); *count = visible_count; return leave(SUCCESS); }

API Result cuDeviceGet(Device *device, int ordinal)
{
    ENTER();
    *device = ordinal;
    return leave(ordinal >= 0 && ordinal < visible_count ? SUCCESS : INVALID_DEVICE);
}

API Result cuDeviceGetName(char *name, int room, Device ordinal)
{
    ENTER_DEVICE(ordinal);
    if (is_mig(device)) snprintf(name, (size_t)room, "%s MIG %s", scene.devices[device->parent].name, device->name);
    else snprintf(name, (size_t)room, "%s", device->name);
    return leave(SUCCESS);
}

static void write_uuid(const char *text, Uuid *uuid)
{
    unsigned n = 0, byte;
    for (const char *at = text + 4; *at && n < 16; at++) /* after "GPU-" or "MIG-" */
        if (*at != '-' && sscanf(at++, "%2x", &byte) == 1) uuid->bytes[n++] = (char)byte;
}

/* Version 2 tells the MIG device's own UUID, version 1 its GPU's. */
API Result cuDeviceGetUuid_v2(Uuid *uuid, Device ordinal)
{ ENTER_DEVICE(ordinal); write_uuid(device->uuid, uuid); return leave(SUCCESS); }

API Result cuDeviceGetUuid(Uuid *uuid, Device ordinal)
{
    ENTER_DEVICE(ordinal);
    write_uuid(is_mig(device) ? scene.devices[device->parent].uuid : device->uuid, uuid);
    return leave(SUCCESS);
}

API Result cuDeviceTotalMem_v2(size_t *bytes, Device ordinal)
{ ENTER_DEVICE(ordinal); *bytes = (size_t)(device->memory_mib * MIB); return leave(SUCCESS); }

API Result cuDeviceGetAttribute(int *value, int attribute, Device ordinal)
{
    ENTER_DEVICE(ordinal);
    struct device *gpu = is_mig(device) ? &scene.devices[device->parent] : device;
    const char *percent = getenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE");
    if (attribute == CAPABILITY_MAJOR) *value = gpu->capability_major;
    else if (attribute == CAPABILITY_MINOR) *value = gpu->capability_minor;
    else if (attribute == MULTIPROCESSOR_COUNT) {
        *value = (int)device->sm_count;
        /* Under MPS the count is the share's part of the card. */
        if (percent && scene.mps_running && !is_mig(device)) {
            double part = device->sm_count * atof(percent) / 100;
            *value = (int)part < part ? (int)part + 1 : (int)part;
        }
    } else return leave(INVALID_VALUE);
    return leave(SUCCESS);
}

API Result cuDevicePrimaryCtxRetain(Context *context, Device ordinal)
{
    ENTER_DEVICE(ordinal);
    (void)device;
    contexts[ordinal].device = ordinal;
    *context = &contexts[ordinal];
    return leave(SUCCESS);
}

API Result cuDevicePrimaryCtxRelease_v2(Device ordinal)
{ ENTER_DEVICE(ordinal); (void)device; return leave(SUCCESS); }
API Result cuDevicePrimaryCtxRelease(Device ordinal) { return cuDevicePrimaryCtxRelease_v2(ordinal); }

API Result cuCtxSetCurrent(Context context) { ENTER(); current = context; return leave(SUCCESS); }

/* A T4 showed 1000.9, 2024.9 and 4072.9 MiB free under limits of 1, 2 and 4 GiB. */
#define MPS_CONTEXT_MIB 23

/* "0=1G,1=512MB": by ordinal among the visible devices. Negative when there is no limit. */
static double mps_limit_mib(Device ordinal)
{
    const char *limits = getenv("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT");
    char list[4096], *rest = list, *entry;
    if (!limits || !scene.mps_running || !copy_text(list, sizeof list, limits)) return -1;
    while ((entry = strsep(&rest, ","))) {
        char *unit;
        if (strtol(entry, &unit, 10) != ordinal || *unit != '=') continue;
        double amount = strtod(unit + 1, &unit);
        if (!strncasecmp(unit, "G", 1)) return amount * 1024;
        if (!strncasecmp(unit, "M", 1)) return amount;
        if (!strncasecmp(unit, "K", 1)) return amount / 1024;
        return amount / MIB;
    }
    return -1;
}

API Result cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    ENTER();
    if (!current) return leave(INVALID_CONTEXT);
    struct device *device = device_by_uuid(visible[current->device]);
    if (!device) return leave(INVALID_CONTEXT);
    double free_mib = device->memory_mib - device->reserved_mib - value_now(device->used_mib);
    double limit = is_mig(device) ? -1 : mps_limit_mib(current->device);
    /* The client's own context counts within its limit. */
    if (limit >= 0 && limit - MPS_CONTEXT_MIB < free_mib) free_mib = limit - MPS_CONTEXT_MIB;
    if (free_mib < 0) free_mib = 0;
    *free_bytes = (size_t)(free_mib * MIB);
    *total_bytes = (size_t)(device->memory_mib * MIB);
    return leave(SUCCESS);
}
