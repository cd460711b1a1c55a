/* libnvidia-ml.so.1 without a GPU: what is measured. Memory, work, the card, GPM.
 *
 * Rule: as in nvml.c. A GPU in MIG mode and its instances refuse utilisation, and a MIG
 * handle refuses what belongs to the card; an unknown is an error code, never a zero.
 *
 * Built a second time with -DWITHOUT_GPM, it lacks the symbols that old drivers lack: GPM,
 * memory version 2 and memory limits.
 */
#include "calls.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- memory -------------------------------------------------------------------------- */

struct memory { unsigned long long total, free, used; };
struct memory_v2 { unsigned version; unsigned long long total, reserved, free, used; };

/* Version 1 counts what the driver keeps for itself as used, version 2 apart. */
API Return nvmlDeviceGetMemoryInfo(Handle handle, struct memory *memory)
{
    ENTER_DEVICE(handle);
    double used = value_now(device->used_mib) + device->reserved_mib;
    if (!memory) return leave(INVALID_ARGUMENT);
    memory->total = (unsigned long long)(device->memory_mib * MIB);
    memory->used = (unsigned long long)(used * MIB);
    memory->free = memory->total - memory->used;
    return leave(SUCCESS);
}

#ifndef WITHOUT_GPM
API Return nvmlDeviceGetMemoryInfo_v2(Handle handle, struct memory_v2 *memory)
{
    ENTER_DEVICE(handle);
    if (!memory) return leave(INVALID_ARGUMENT);
    if (memory->version != (sizeof *memory | 2u << 24)) return leave(VERSION_MISMATCH);
    memory->total = (unsigned long long)(device->memory_mib * MIB);
    memory->reserved = (unsigned long long)(device->reserved_mib * MIB);
    memory->used = (unsigned long long)(value_now(device->used_mib) * MIB);
    memory->free = memory->total - memory->reserved - memory->used;
    return leave(SUCCESS);
}

struct memory_limits { const char *cgroup; unsigned long long soft, hard, used; };

API Return nvmlDeviceGetMemoryLimits_v1(Handle handle, struct memory_limits *limits)
{
    ENTER_DEVICE(handle);
    if (!limits || !limits->cgroup) return leave(INVALID_ARGUMENT);
    if (IS_MIG(device) || device->mig_mode == 1) return leave(NOT_SUPPORTED);
    limits->soft = limits->used = 0;
    limits->hard = ~0ULL; /* NVML_DEVICE_MEMORY_LIMIT_MAX: no limit is set */
    for (int i = 0; i < device->limit_count; i++)
        if (!strcmp(device->limits[i].cgroup, limits->cgroup)) {
            limits->soft = (unsigned long long)(device->limits[i].soft_mib * MIB);
            limits->hard = (unsigned long long)(device->limits[i].hard_mib * MIB);
            limits->used = (unsigned long long)(device->limits[i].used_mib * MIB);
        }
    return leave(SUCCESS);
}
#endif

/* ---- work ---------------------------------------------------------------------------- */

struct utilization { unsigned gpu, memory; };

API Return nvmlDeviceGetUtilizationRates(Handle handle, struct utilization *utilization)
{
    ENTER_DEVICE(handle);
    if (IS_MIG(device) || device->mig_mode == 1) return leave(NOT_SUPPORTED);
    utilization->gpu = (unsigned)value_now(device->busy_percent);
    utilization->memory = (unsigned)value_now(device->memory_busy_percent);
    return leave(SUCCESS);
}

struct process_info { unsigned pid; unsigned long long used; unsigned gi, ci; };

static Return list_processes(struct device *device, int is_mps, unsigned *count, struct process_info *list)
{
    unsigned found = 0, room = list && count ? *count : 0;
    for (int i = 0; i < scene.device_count; i++) {
        struct device *owner = &scene.devices[i]; /* a GPU lists its instances' processes too */
        if (owner != device && (owner->parent < 0 || &scene.devices[owner->parent] != device)) continue;
        for (int n = 0; n < owner->process_count; n++) {
            struct process *p = &owner->processes[n];
            if (p->is_mps != is_mps) continue;
            if (found < room)
                list[found] = (struct process_info){
                    p->pid, (unsigned long long)(value_now(p->memory_mib) * MIB),
                    IS_MIG(owner) ? owner->gi : ~0u, IS_MIG(owner) ? owner->ci : ~0u};
            found++;
        }
    }
    if (!count) return leave(INVALID_ARGUMENT);
    *count = found;
    return leave(found > room ? INSUFFICIENT_SIZE : SUCCESS);
}

API Return nvmlDeviceGetComputeRunningProcesses_v3(Handle handle, unsigned *count, struct process_info *list)
{ ENTER_DEVICE(handle); return list_processes(device, 0, count, list); }

API Return nvmlDeviceGetMPSComputeRunningProcesses_v3(Handle handle, unsigned *count, struct process_info *list)
{ ENTER_DEVICE(handle); return list_processes(device, 1, count, list); }

struct process_sample { unsigned pid; unsigned long long at; unsigned sm, memory, encoder, decoder; };

API Return nvmlDeviceGetProcessUtilization(Handle handle, struct process_sample *list, unsigned *count,
                                           unsigned long long last_seen)
{
    struct timespec now;
    ENTER_DEVICE(handle);
    (void)last_seen;
    if (IS_MIG(device) || device->mig_mode == 1) return leave(NOT_SUPPORTED);
    if (!device->process_count) return leave(NOT_FOUND); /* no sample since last_seen */
    if (!list || *count < (unsigned)device->process_count) {
        *count = (unsigned)device->process_count;
        return leave(INSUFFICIENT_SIZE);
    }
    clock_gettime(CLOCK_REALTIME, &now);
    for (int i = 0; i < device->process_count; i++)
        list[i] = (struct process_sample){
            .pid = device->processes[i].pid,
            .at = (unsigned long long)now.tv_sec * 1000000ULL + (unsigned long long)now.tv_nsec / 1000,
            .sm = (unsigned)value_now(device->processes[i].sm_percent)};
    *count = (unsigned)device->process_count;
    return leave(SUCCESS);
}

/* ---- the card: unknown to a MIG handle ------------------------------------------------ */

API Return nvmlDeviceGetTemperature(Handle handle, unsigned sensor, unsigned *celsius)
{
    ENTER_DEVICE(handle);
    if (IS_MIG(device)) return leave(NOT_SUPPORTED);
    return sensor ? leave(INVALID_ARGUMENT) : give(celsius, (unsigned)device->temperature_c);
}

struct temperature { unsigned version, sensor; int celsius; };

API Return nvmlDeviceGetTemperatureV(Handle handle, struct temperature *temperature)
{
    ENTER_DEVICE(handle);
    if (IS_MIG(device)) return leave(NOT_SUPPORTED);
    if (temperature->version != (sizeof *temperature | 1u << 24)) return leave(VERSION_MISMATCH);
    temperature->celsius = (int)device->temperature_c;
    return leave(SUCCESS);
}

API Return nvmlDeviceGetPowerUsage(Handle handle, unsigned *milliwatts)
{
    ENTER_DEVICE(handle);
    return IS_MIG(device) ? leave(NOT_SUPPORTED) : give(milliwatts, (unsigned)(device->power_watts * 1000));
}

API Return nvmlDeviceGetEnforcedPowerLimit(Handle handle, unsigned *milliwatts)
{
    ENTER_DEVICE(handle);
    return IS_MIG(device) ? leave(NOT_SUPPORTED)
                          : give(milliwatts, (unsigned)(device->power_limit_watts * 1000));
}

/* ---- GPM: the difference of two samples ----------------------------------------------- */

#ifndef WITHOUT_GPM
typedef struct sample { char uuid[UUID_LENGTH]; struct timespec at; int taken; } *Sample;
struct gpm_support { unsigned version, is_supported; };
struct gpm_metric {
    unsigned id;
    Return code;
    double value;
    const char *short_name, *long_name, *unit;
};
/* The array's length grew from 333 to 477 with version 1 kept, so only numMetrics is read. */
struct gpm_get { unsigned version, count; Sample first, second; struct gpm_metric metrics[]; };

API Return nvmlGpmQueryDeviceSupport(Handle handle, struct gpm_support *support)
{
    ENTER_DEVICE(handle);
    if (support->version != 1) return leave(VERSION_MISMATCH);
    if (IS_MIG(device)) device = &scene.devices[device->parent];
    return give(&support->is_supported, (unsigned)device->has_gpm);
}

API Return nvmlGpmSampleAlloc(Sample *sample)
{
    ENTER();
    *sample = calloc(1, sizeof **sample);
    return leave(*sample ? SUCCESS : UNKNOWN);
}

API Return nvmlGpmSampleFree(Sample sample)
{
    ENTER();
    free(sample);
    return leave(SUCCESS);
}

static Return take_sample(struct device *device, Sample sample)
{
    int gpu = IS_MIG(device) ? device->parent : (int)(device - scene.devices);
    if (!scene.devices[gpu].has_gpm) return leave(NOT_SUPPORTED);
    if (!sample) return leave(INVALID_ARGUMENT);
    copy_text(sample->uuid, sizeof sample->uuid, device->uuid);
    clock_gettime(CLOCK_MONOTONIC, &sample->at);
    sample->taken = 1;
    return leave(SUCCESS);
}

API Return nvmlGpmSampleGet(Handle handle, Sample sample)
{ ENTER_DEVICE(handle); return take_sample(device, sample); }

API Return nvmlGpmMigSampleGet(Handle handle, unsigned gi, Sample sample)
{
    ENTER_DEVICE(handle);
    for (int i = 0; i < scene.device_count; i++) {
        struct device *mig = &scene.devices[i];
        if (IS_MIG(mig) && &scene.devices[mig->parent] == device && mig->gi == gi)
            return take_sample(mig, sample);
    }
    return leave(IS_MIG(device) ? INVALID_ARGUMENT : NOT_FOUND);
}

API Return nvmlGpmMetricsGet(struct gpm_get *get)
{
    ENTER();
    if (!get || get->version != 1) return leave(VERSION_MISMATCH);
    Sample a = get->first, b = get->second;
    if (!a || !b || !a->taken || !b->taken || strcmp(a->uuid, b->uuid)) return leave(INVALID_ARGUMENT);
    struct device *device = device_by_uuid(a->uuid);
    if (!device) return leave(GPU_IS_LOST);
    double apart = (double)(b->at.tv_sec - a->at.tv_sec) + (b->at.tv_nsec - a->at.tv_nsec) / 1e9;
    for (unsigned i = 0; i < get->count; i++) {
        struct gpm_metric *wanted = &get->metrics[i];
        wanted->code = NOT_SUPPORTED;
        wanted->value = 0;
        wanted->short_name = wanted->long_name = wanted->unit = NULL;
        for (int m = 0; m < device->metric_count; m++)
            if (device->metrics[m].id == wanted->id) {
                wanted->code = device->metrics[m].code;
                /* Too close together, nothing was counted. */
                wanted->value = apart < 0.1 ? NAN : value_now(device->metrics[m].value);
            }
    }
    return leave(SUCCESS);
}
#endif
