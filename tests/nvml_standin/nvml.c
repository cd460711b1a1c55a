/* libnvidia-ml.so.1 without a GPU: the library, the devices and their MIG instances.
 *
 * Rule: each function says first whether the scenario forces an answer (ENTER), then does
 * what NVIDIA's NVML API reference and header promise, including which calls a GPU in MIG
 * mode, a MIG handle or an older model refuses. Structures follow nvml.h byte for byte.
 *
 * A handle is a pointer to a remembered UUID, so it outlives a change of the scenario: a
 * device that is gone answers GPU_IS_LOST. What is measured on a device is in readings.c.
 */
#include "calls.h"

#include <stdio.h>
#include <string.h>

typedef struct instance { char mig_uuid[UUID_LENGTH]; } *Instance;

int nvml_initialised;

static Handle handle_of(const char *uuid)
{
    static struct handle known[MAX_DEVICES * 4];
    static int count;
    for (int i = 0; i < count; i++)
        if (!strcmp(known[i].uuid, uuid)) return &known[i];
    if (count == (int)(sizeof known / sizeof *known)) return NULL;
    copy_text(known[count].uuid, UUID_LENGTH, uuid);
    return &known[count++];
}

static Return give_handle(const struct device *device, Return otherwise, Handle *out)
{
    if (!out) return leave(INVALID_ARGUMENT);
    if (!device) return leave(otherwise);
    *out = handle_of(device->uuid);
    return leave(*out ? SUCCESS : UNKNOWN);
}

static Return give_text(const char *text, char *to, unsigned room)
{
    if (!to) return leave(INVALID_ARGUMENT);
    return leave(copy_text(to, room, text) ? SUCCESS : INSUFFICIENT_SIZE);
}

/* ---- the library and the driver ------------------------------------------------------ */

API Return nvmlInitWithFlags(unsigned flags)
{
    int forced = scenario_enter(__func__, NULL);
    (void)flags;
    if (forced == NOT_FORCED) nvml_initialised++;
    return leave(forced == NOT_FORCED ? SUCCESS : forced);
}
API Return nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

API Return nvmlShutdown(void)
{
    ENTER();
    nvml_initialised--;
    return leave(SUCCESS);
}

API const char *nvmlErrorString(Return code)
{
    static const struct { Return code; const char *words; } known[] = {
        {0, "Success"}, {1, "Uninitialized"}, {2, "Invalid Argument"}, {3, "Not Supported"},
        {4, "Insufficient Permissions"}, {6, "Not Found"}, {7, "Insufficient Size"},
        {9, "Driver Not Loaded"}, {10, "Timeout"}, {12, "NVML Shared Library Not Found"},
        {13, "Function Not Found"}, {15, "GPU is lost"}, {16, "GPU requires reset"},
        {18, "Driver/library version mismatch"}, {25, "Argument version mismatch"},
    };
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].code == code) return known[i].words;
    return "Unknown Error";
}

API Return nvmlSystemGetDriverVersion(char *to, unsigned room)
{ ENTER(); return give_text(scene.driver, to, room); }

API Return nvmlSystemGetNVMLVersion(char *to, unsigned room)
{ ENTER(); return give_text(scene.nvml, to, room); }

API Return nvmlSystemGetCudaDriverVersion_v2(int *version)
{ ENTER(); return give((unsigned *)version, (unsigned)scene.cuda); }
API Return nvmlSystemGetCudaDriverVersion(int *version)
{ return nvmlSystemGetCudaDriverVersion_v2(version); }

/* ---- devices ------------------------------------------------------------------------- */

API Return nvmlDeviceGetCount_v2(unsigned *count)
{ ENTER(); return give(count, (unsigned)gpu_count()); }

API Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle *out)
{
    ENTER();
    struct device *gpu = gpu_by_index(index);
    if (gpu && (forced = scenario_forces(__func__, gpu->uuid)) != NOT_FORCED) return leave(forced);
    return give_handle(gpu, INVALID_ARGUMENT, out);
}

API Return nvmlDeviceGetHandleByUUID(const char *uuid, Handle *out)
{ ENTER_FOR(uuid); return give_handle(uuid ? device_by_uuid(uuid) : NULL, NOT_FOUND, out); }

API Return nvmlDeviceGetUUID(Handle handle, char *to, unsigned room)
{ ENTER_DEVICE(handle); return give_text(device->uuid, to, room); }

API Return nvmlDeviceGetName(Handle handle, char *to, unsigned room)
{
    char name[256];
    ENTER_DEVICE(handle);
    /* A MIG device is called "<product> MIG <profile>"; its scenario name is the profile. */
    if (IS_MIG(device))
        snprintf(name, sizeof name, "%s MIG %s", scene.devices[device->parent].name, device->name);
    else
        snprintf(name, sizeof name, "%s", device->name);
    return give_text(name, to, room);
}

API Return nvmlDeviceGetIndex(Handle handle, unsigned *index)
{ ENTER_DEVICE(handle); return give(index, device->index); }

API Return nvmlDeviceGetMinorNumber(Handle handle, unsigned *number)
{ ENTER_DEVICE(handle); return IS_MIG(device) ? leave(NOT_SUPPORTED) : give(number, device->index); }

API Return nvmlDeviceGetBrand(Handle handle, unsigned *brand)
{ ENTER_DEVICE(handle); return give(brand, 14 /* NVML_BRAND_NVIDIA */); }

API Return nvmlDeviceGetCudaComputeCapability(Handle handle, int *major, int *minor)
{
    ENTER_DEVICE(handle);
    struct device *gpu = IS_MIG(device) ? &scene.devices[device->parent] : device;
    if (!major || !minor) return leave(INVALID_ARGUMENT);
    *major = gpu->capability_major;
    *minor = gpu->capability_minor;
    return leave(SUCCESS);
}

API Return nvmlDeviceGetComputeMode(Handle handle, unsigned *mode)
{ ENTER_DEVICE(handle); return give(mode, (unsigned)device->compute_mode); }

struct pci_info {
    char bus_id_legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
};

API Return nvmlDeviceGetPciInfo_v3(Handle handle, struct pci_info *info)
{
    ENTER_DEVICE(handle);
    if (IS_MIG(device)) device = &scene.devices[device->parent];
    if (!info) return leave(INVALID_ARGUMENT);
    memset(info, 0, sizeof *info);
    sscanf(device->pci_bus_id, "%x:%x:%x", &info->domain, &info->bus, &info->device);
    info->device_id = device->pci_device_id;
    copy_text(info->bus_id, sizeof info->bus_id, device->pci_bus_id);
    copy_text(info->bus_id_legacy, sizeof info->bus_id_legacy, device->pci_bus_id + 4);
    return leave(SUCCESS);
}

/* ---- MIG ----------------------------------------------------------------------------- */

API Return nvmlDeviceGetMigMode(Handle handle, unsigned *current, unsigned *pending)
{
    ENTER_DEVICE(handle);
    if (device->mig_mode < 0 || IS_MIG(device)) return leave(NOT_SUPPORTED);
    *current = (unsigned)device->mig_mode;
    *pending = (unsigned)device->mig_pending;
    return leave(SUCCESS);
}

API Return nvmlDeviceGetMaxMigDeviceCount(Handle handle, unsigned *count)
{ ENTER_DEVICE(handle); return give(count, device->max_mig_devices); }

API Return nvmlDeviceGetMigDeviceHandleByIndex(Handle handle, unsigned index, Handle *out)
{
    ENTER_DEVICE(handle);
    if (device->mig_mode != 1) return leave(NOT_SUPPORTED);
    if (index >= device->max_mig_devices) return leave(INVALID_ARGUMENT);
    return give_handle(mig_by_index(device, index), NOT_FOUND, out);
}

API Return nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Handle handle, Handle *out)
{
    ENTER_DEVICE(handle);
    return give_handle(IS_MIG(device) ? &scene.devices[device->parent] : NULL, INVALID_ARGUMENT, out);
}

API Return nvmlDeviceIsMigDeviceHandle(Handle handle, unsigned *is_mig)
{ ENTER_DEVICE(handle); return give(is_mig, IS_MIG(device)); }

API Return nvmlDeviceGetGpuInstanceId(Handle handle, unsigned *id)
{ ENTER_DEVICE(handle); return IS_MIG(device) ? give(id, device->gi) : leave(INVALID_ARGUMENT); }

API Return nvmlDeviceGetComputeInstanceId(Handle handle, unsigned *id)
{ ENTER_DEVICE(handle); return IS_MIG(device) ? give(id, device->ci) : leave(INVALID_ARGUMENT); }

struct attributes {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpegs, ofas;
    unsigned gpu_instance_slices, compute_instance_slices;
    unsigned long long memory_mb;
};

API Return nvmlDeviceGetAttributes_v2(Handle handle, struct attributes *attributes)
{
    ENTER_DEVICE(handle);
    if (!IS_MIG(device)) return leave(NOT_SUPPORTED);
    if (!attributes) return leave(INVALID_ARGUMENT);
    memset(attributes, 0, sizeof *attributes);
    attributes->multiprocessors = device->sm_count;
    attributes->gpu_instance_slices = device->compute_slices;
    attributes->compute_instance_slices =
        device->ci_slices ? device->ci_slices : device->compute_slices;
    attributes->memory_mb = (unsigned long long)device->memory_mib;
    return leave(SUCCESS);
}

/* Placements are told to a privileged process only. */
API Return nvmlDeviceGetGpuInstanceById(Handle handle, unsigned id, Instance *out)
{
    static struct instance known[MAX_DEVICES];
    ENTER_DEVICE(handle);
    if (device->mig_mode != 1) return leave(NOT_SUPPORTED);
    if (!scene.privileged) return leave(NO_PERMISSION);
    for (int i = 0; i < scene.device_count; i++) {
        struct device *mig = &scene.devices[i];
        if (IS_MIG(mig) && &scene.devices[mig->parent] == device && mig->gi == id) {
            copy_text(known[i].mig_uuid, UUID_LENGTH, mig->uuid);
            *out = &known[i];
            return leave(SUCCESS);
        }
    }
    return leave(NOT_FOUND);
}

struct instance_info { Handle device; unsigned id, profile_id, start, size; };

API Return nvmlGpuInstanceGetInfo(Instance instance, struct instance_info *info)
{
    ENTER();
    struct device *mig = instance ? device_by_uuid(instance->mig_uuid) : NULL;
    if (!mig || !info) return leave(INVALID_ARGUMENT);
    *info = (struct instance_info){handle_of(scene.devices[mig->parent].uuid), mig->gi,
                                   mig->gi_profile, mig->start, mig->size};
    return leave(SUCCESS);
}
