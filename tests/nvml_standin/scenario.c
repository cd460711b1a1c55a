/* Reads the scenario file: one statement a line, `#` begins a comment.
 *
 * Rule: a line that is not understood ends the process with its number. A scenario that
 * says something else than its author meant would make a test pass for the wrong reason.
 */
#define _GNU_SOURCE
#include "scenario.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct scene scene;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct timespec read_mtime;
static off_t read_size = -1;
static ino_t read_inode;

static const struct { const char *name; int code; } codes[] = {
    {"SUCCESS", 0}, {"UNINITIALIZED", 1}, {"INVALID_ARGUMENT", 2}, {"NOT_SUPPORTED", 3},
    {"NO_PERMISSION", 4}, {"NOT_FOUND", 6}, {"INSUFFICIENT_SIZE", 7},
    {"DRIVER_NOT_LOADED", 9}, {"TIMEOUT", 10}, {"IRQ_ISSUE", 11}, {"LIBRARY_NOT_FOUND", 12},
    {"FUNCTION_NOT_FOUND", 13}, {"GPU_IS_LOST", 15}, {"RESET_REQUIRED", 16},
    {"OPERATING_SYSTEM", 17}, {"LIB_RM_VERSION_MISMATCH", 18}, {"IN_USE", 19},
    {"MEMORY", 20}, {"NO_DATA", 21}, {"ARGUMENT_VERSION_MISMATCH", 25}, {"NOT_READY", 27},
    {"GPU_NOT_FOUND", 28}, {"INVALID_STATE", 29}, {"UNKNOWN", 999},
};

static void give_up(const char *path, int number, const char *line, const char *why)
{
    fprintf(stderr, "scenario %s, line %d: %s: %s\n", path, number, why, line);
    exit(97);
}

static int code_named(const char *name)
{
    for (unsigned i = 0; i < sizeof codes / sizeof *codes; i++)
        if (!strcmp(codes[i].name, name))
            return codes[i].code;
    return NOT_FORCED;
}

/* "12", "nan", or "10-90/20": from 10 to 90 and back every 20 seconds. */
static int parse_value(const char *text, struct value *value)
{
    char *end;
    *value = (struct value){strtod(text, &end), 0, 0};
    value->high = value->low;
    if (*end == '-') {
        value->high = strtod(end + 1, &end);
        if (*end != '/')
            return 0;
        value->period_seconds = strtod(end + 1, &end);
    }
    return end != text && !*end;
}

double value_now(struct value value)
{
    struct timespec now;
    if (value.period_seconds <= 0)
        return value.low;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double phase = (now.tv_sec + now.tv_nsec / 1e9) / value.period_seconds;
    phase -= (long long)phase;
    double height = phase < 0.5 ? 2 * phase : 2 - 2 * phase;
    return value.low + (value.high - value.low) * height;
}

static struct device *add_device(const char *uuid, int parent)
{
    if (scene.device_count == MAX_DEVICES)
        return NULL;
    struct device *device = &scene.devices[scene.device_count++];
    memset(device, 0, sizeof *device);
    copy_text(device->uuid, sizeof device->uuid, uuid);
    device->parent = parent;
    device->mig_mode = device->mig_pending = -1;
    device->power_limit_watts = 400;
    for (int i = 0; i < scene.device_count - 1; i++)
        if (scene.devices[i].parent == parent)
            device->index++;
    return device;
}

static int parse_device_line(struct device *d, const char *key, char *rest)
{
    char a[256] = "", b[256] = "", c[256] = "", e[256] = "";
    int words = sscanf(rest, "%255s %255s %255s %255s", a, b, c, e);
    struct value value;
    int is_value = parse_value(a, &value);

    if (!strcmp(key, "name")) return copy_text(d->name, sizeof d->name, rest);
    if (!strcmp(key, "pci")) {
        d->pci_device_id = (unsigned)strtoul(a, NULL, 16);
        return words == 2 && copy_text(d->pci_bus_id, sizeof d->pci_bus_id, b);
    }
    if (!strcmp(key, "capability"))
        return sscanf(a, "%d.%d", &d->capability_major, &d->capability_minor) == 2;
    if (!strcmp(key, "mig")) { /* mig on 7 | mig off 7 | mig pending 7 (switched on, not yet) */
        d->mig_mode = !strcmp(a, "on");
        d->mig_pending = d->mig_mode || !strcmp(a, "pending");
        d->max_mig_devices = (unsigned)atoi(b);
        return words == 2;
    }
    if (!strcmp(key, "gpm")) {
        d->has_gpm = !strcmp(a, "yes");
        return d->has_gpm || !strcmp(a, "no");
    }
    if (!strcmp(key, "metric")) { /* metric ID VALUE [CODE] */
        if (d->metric_count == MAX_METRICS || words < 2 || !parse_value(b, &value)) return 0;
        int code = words > 2 ? code_named(c) : 0;
        d->metrics[d->metric_count++] = (struct metric){(unsigned)atoi(a), code, value};
        return code != NOT_FORCED;
    }
    if (!strcmp(key, "process")) { /* process PID MIB SM% [mps] */
        struct process p = {.pid = (unsigned)atoi(a), .is_mps = !strcmp(e, "mps")};
        if (d->process_count == MAX_PROCESSES || words < 3) return 0;
        if (!parse_value(b, &p.memory_mib) || !parse_value(c, &p.sm_percent)) return 0;
        d->processes[d->process_count++] = p;
        return 1;
    }
    if (!strcmp(key, "memory_limit")) { /* memory_limit CGROUP SOFT HARD USED, in MiB */
        struct memory_limit limit = {.soft_mib = atof(b), .hard_mib = atof(c), .used_mib = atof(e)};
        if (d->limit_count == MAX_LIMITS || words < 4) return 0;
        copy_text(limit.cgroup, sizeof limit.cgroup, a);
        d->limits[d->limit_count++] = limit;
        return 1;
    }
    if (!is_value) return 0;
    if (!strcmp(key, "used_mib")) d->used_mib = value;
    else if (!strcmp(key, "busy_percent")) d->busy_percent = value;
    else if (!strcmp(key, "memory_busy_percent")) d->memory_busy_percent = value;
    else if (!strcmp(key, "memory_mib")) d->memory_mib = value.low;
    else if (!strcmp(key, "reserved_mib")) d->reserved_mib = value.low;
    else if (!strcmp(key, "power_watts")) d->power_watts = value.low;
    else if (!strcmp(key, "power_limit_watts")) d->power_limit_watts = value.low;
    else if (!strcmp(key, "temperature_c")) d->temperature_c = value.low;
    else if (!strcmp(key, "compute_mode")) d->compute_mode = (int)value.low;
    else if (!strcmp(key, "index")) d->index = (unsigned)value.low;
    else if (!strcmp(key, "gi")) d->gi = (unsigned)value.low;
    else if (!strcmp(key, "ci")) d->ci = (unsigned)value.low;
    else if (!strcmp(key, "compute_slices")) d->compute_slices = (unsigned)value.low;
    else if (!strcmp(key, "ci_slices")) d->ci_slices = (unsigned)value.low;
    else if (!strcmp(key, "sm_count")) d->sm_count = (unsigned)value.low;
    else if (!strcmp(key, "gi_profile")) d->gi_profile = (unsigned)value.low;
    else if (!strcmp(key, "start")) d->start = (unsigned)value.low;
    else if (!strcmp(key, "size")) d->size = (unsigned)value.low;
    else return 0;
    return 1;
}

static int parse_rule(const char *key, const char *rest)
{
    struct rule rule = {.is_delay = !strcmp(key, "delay")};
    char what[64];
    if (scene.rule_count == MAX_RULES) return 0;
    if (sscanf(rest, "%79s %63s %95s", rule.function, what, rule.uuid) < 2) return 0;
    if (rule.is_delay) rule.seconds = atof(what); /* "30s", "0.02s" */
    else if ((rule.code = code_named(what)) == NOT_FORCED) return 0;
    scene.rules[scene.rule_count++] = rule;
    return 1;
}

static void parse_file(const char *path, FILE *file)
{
    struct device *device = NULL;
    char line[512], key[64];
    int gpu = -1, number = 0;

    memset(&scene, 0, sizeof scene);
    while (fgets(line, sizeof line, file)) {
        number++;
        line[strcspn(line, "#\n")] = 0;
        int used = 0, understood;
        if (sscanf(line, " %63s %n", key, &used) < 1) continue;
        char *rest = line + used;
        for (size_t n = strlen(rest); n && rest[n - 1] == ' ';) rest[--n] = 0;

        if (!strcmp(key, "gpu")) {
            gpu = scene.device_count;
            understood = (device = add_device(rest, -1)) != NULL;
        } else if (!strcmp(key, "mig_device")) {
            understood = gpu >= 0 && (device = add_device(rest, gpu)) != NULL;
        } else if (!strcmp(key, "driver"))
            understood = copy_text(scene.driver, sizeof scene.driver, rest);
        else if (!strcmp(key, "nvml"))
            understood = copy_text(scene.nvml, sizeof scene.nvml, rest);
        else if (!strcmp(key, "cuda"))
            understood = (scene.cuda = atoi(rest)) > 0;
        else if (!strcmp(key, "privileged"))
            understood = (scene.privileged = !strcmp(rest, "yes")) || !strcmp(rest, "no");
        else if (!strcmp(key, "mps"))
            understood = (scene.mps_running = !strcmp(rest, "on")) || !strcmp(rest, "off");
        else if (!strcmp(key, "symbols")) /* chosen when the library is built, see README */
            understood = 1;
        else if (!strcmp(key, "fail") || !strcmp(key, "delay"))
            understood = parse_rule(key, rest);
        else
            understood = device && parse_device_line(device, key, rest);
        if (!understood) give_up(path, number, line, "not understood");
    }
}

/* Whether a comma-separated list has this word. */
static int lists(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ',') && (!at[length] || at[length] == ','))
            return 1;
    return 0;
}

/* What a container runtime lets through: ALIQUOT_NVML_VISIBLE names UUIDs. A GPU stands for
 * its instances too, an instance brings its GPU along, and both are counted anew from 0. */
static void hide_what_is_not_let_in(void)
{
    const char *visible = getenv("ALIQUOT_NVML_VISIBLE");
    int keep[MAX_DEVICES] = {0}, place[MAX_DEVICES], count = 0;
    if (!visible || !strcmp(visible, "all")) return;
    for (int i = 0; i < scene.device_count; i++) {
        int parent = scene.devices[i].parent; /* always before its instances */
        if (lists(visible, scene.devices[i].uuid)) {
            keep[i] = 1;
            if (parent >= 0) keep[parent] = 1;
        } else if (parent >= 0 && lists(visible, scene.devices[parent].uuid))
            keep[i] = 1;
    }
    for (int i = 0; i < scene.device_count; i++) {
        if (!keep[i]) continue;
        struct device *device = &scene.devices[place[i] = count];
        if (count != i) *device = scene.devices[i];
        if (device->parent >= 0) device->parent = place[device->parent];
        device->index = 0;
        for (int before = 0; before < count; before++)
            device->index += scene.devices[before].parent == device->parent;
        count++;
    }
    scene.device_count = count;
}

static void read_if_changed(void)
{
    const char *path = getenv("ALIQUOT_NVML_SCENARIO");
    struct stat now;
    if (!path) give_up("(none)", 0, "ALIQUOT_NVML_SCENARIO", "not set");
    if (stat(path, &now)) give_up(path, 0, path, "cannot be read");
    if (now.st_mtim.tv_sec == read_mtime.tv_sec && now.st_mtim.tv_nsec == read_mtime.tv_nsec
        && now.st_size == read_size && now.st_ino == read_inode)
        return;
    FILE *file = fopen(path, "r");
    if (!file) give_up(path, 0, path, "cannot be opened");
    parse_file(path, file);
    hide_what_is_not_let_in();
    fclose(file);
    read_mtime = now.st_mtim;
    read_size = now.st_size;
    read_inode = now.st_ino;
}

/* A rule names the symbol, or the symbol without its `_v2`, and then means every version. */
static int names_function(const struct rule *rule, const char *function)
{
    size_t length = strlen(rule->function);
    if (strncmp(rule->function, function, length)) return 0;
    return !function[length] || (!strncmp(function + length, "_v", 2) && strlen(function + length) == 3);
}

static const struct rule *rule_for(const char *function, const char *uuid, int is_delay)
{
    for (int i = 0; i < scene.rule_count; i++) {
        const struct rule *rule = &scene.rules[i];
        if (rule->is_delay == is_delay && names_function(rule, function)
            && (!*rule->uuid || (uuid && !strcmp(rule->uuid, uuid))))
            return rule;
    }
    return NULL;
}

int scenario_enter(const char *function, const char *uuid)
{
    pthread_mutex_lock(&lock);
    read_if_changed();
    const struct rule *delay = rule_for(function, uuid, 1);
    if (delay) {
        double seconds = delay->seconds;
        struct timespec rest = {(time_t)seconds, (long)((seconds - (long)seconds) * 1e9)};
        pthread_mutex_unlock(&lock);
        nanosleep(&rest, NULL);
        pthread_mutex_lock(&lock);
        read_if_changed();
    }
    return scenario_forces(function, uuid);
}

int scenario_forces(const char *function, const char *uuid)
{
    const struct rule *fail = rule_for(function, uuid, 0);
    return fail ? fail->code : NOT_FORCED;
}

void scenario_leave(void) { pthread_mutex_unlock(&lock); }

struct device *device_by_uuid(const char *uuid)
{
    for (int i = 0; i < scene.device_count; i++)
        if (!strcmp(scene.devices[i].uuid, uuid))
            return &scene.devices[i];
    return NULL;
}

int gpu_count(void)
{
    int count = 0;
    for (int i = 0; i < scene.device_count; i++)
        count += scene.devices[i].parent < 0;
    return count;
}

struct device *gpu_by_index(unsigned index)
{
    for (int i = 0; i < scene.device_count; i++)
        if (scene.devices[i].parent < 0 && scene.devices[i].index == index)
            return &scene.devices[i];
    return NULL;
}

struct device *mig_by_index(const struct device *gpu, unsigned index)
{
    for (int i = 0; i < scene.device_count; i++) {
        struct device *device = &scene.devices[i];
        if (device->parent >= 0 && &scene.devices[device->parent] == gpu && device->index == index)
            return device;
    }
    return NULL;
}

int copy_text(char *to, unsigned room, const char *text)
{
    if (!room || strlen(text) >= room) return 0;
    strcpy(to, text);
    return 1;
}
