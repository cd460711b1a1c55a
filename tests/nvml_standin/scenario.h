/* The machine that a scenario file describes, as both libraries see it.
 *
 * Rule: every entry point takes the lock with scenario_enter(), which reads the file again
 * when it has changed, and gives it back with scenario_leave(). Values are copied out of
 * `scene` while the lock is held; nothing else keeps pointers into it.
 *
 * The file's grammar is told in README.md beside this file.
 */
#ifndef ALIQUOT_SCENARIO_H
#define ALIQUOT_SCENARIO_H

#define MAX_DEVICES 128 /* GPUs and MIG devices together */
#define MAX_RULES 64
#define MAX_METRICS 12
#define MAX_PROCESSES 16
#define MAX_LIMITS 4
#define UUID_LENGTH 96
#define MIB (1024ULL * 1024ULL)

/* A figure that stands still (low == high) or swings between two values. */
struct value { double low, high, period_seconds; };

struct metric { unsigned id; int code; struct value value; };
struct process { unsigned pid; struct value memory_mib, sm_percent; int is_mps; };
struct memory_limit { char cgroup[256]; double soft_mib, hard_mib, used_mib; };

struct device {
    char uuid[UUID_LENGTH], name[96], pci_bus_id[32];
    int parent;                /* index of the GPU that a MIG device lies on; -1 for a GPU */
    unsigned index;            /* of a GPU among GPUs, of a MIG device on its GPU */
    unsigned pci_device_id;
    int capability_major, capability_minor;
    int mig_mode, mig_pending; /* 0, 1; -1 when the model has no MIG */
    unsigned max_mig_devices;
    int has_gpm, compute_mode;
    double memory_mib, reserved_mib, power_watts, power_limit_watts, temperature_c;
    struct value used_mib, busy_percent, memory_busy_percent;
    unsigned gi, ci, compute_slices, ci_slices, sm_count, gi_profile, start, size;
    struct metric metrics[MAX_METRICS];
    struct process processes[MAX_PROCESSES];
    struct memory_limit limits[MAX_LIMITS];
    int metric_count, process_count, limit_count;
};

/* "This function answers so", for every device or for one. */
struct rule { char function[80], uuid[UUID_LENGTH]; int is_delay, code; double seconds; };

struct scene {
    char driver[64], nvml[64];
    int cuda, privileged, mps_running;
    struct device devices[MAX_DEVICES];
    struct rule rules[MAX_RULES];
    int device_count, rule_count;
};

extern struct scene scene;

/* Locks, reads the file again if its time or size changed, then looks for a rule for this
 * function and device (uuid may be NULL). Returns the forced code, or NOT_FORCED. A delay is
 * slept before the lock is taken, so that other threads go on. */
#define NOT_FORCED (-1)
int scenario_enter(const char *function, const char *uuid);
/* The same question again, under the lock, once the device is known. */
int scenario_forces(const char *function, const char *uuid);
void scenario_leave(void);

double value_now(struct value value);
struct device *device_by_uuid(const char *uuid); /* under the lock; NULL when it is gone */
int gpu_count(void);
struct device *gpu_by_index(unsigned index);
struct device *mig_by_index(const struct device *gpu, unsigned index);
int copy_text(char *to, unsigned room, const char *text); /* 0 when it does not fit */

#endif
