/* status.h - what a call can end with: one list, so that enum, text and exit code cannot drift apart.
 *
 * The order is the order of severity: when ranks disagree on a status, the largest one wins everywhere. */
#ifndef RADAR_STATUS_H
#define RADAR_STATUS_H

/*      name          exit code, text */
#define RADAR_STATUS_LIST(X) \
    X(OK, 0, "ok") \
    X(ERR_REQUEST, 1, "a request failed") \
    X(ERR_STOPPED, 75, "stopped on request") \
    X(ERR_USAGE, 64, "wrong usage") \
    X(ERR_CONFIG, 78, "impossible configuration") \
    X(ERR_NO_INPUT, 66, "input is missing") \
    X(ERR_DATA, 65, "bad data") \
    X(ERR_CREATE, 73, "cannot create output") \
    X(ERR_IO, 74, "input/output error") \
    X(ERR_MEMORY, 71, "out of memory") \
    X(ERR_DISAGREE, 76, "ranks disagree") \
    X(ERR_PEER, 69, "a rank or device was lost") \
    X(ERR_INTERNAL, 70, "internal error")

typedef enum radar_status {
#define RADAR_STATUS_ENUM(name, code, text) RADAR_##name,
    RADAR_STATUS_LIST(RADAR_STATUS_ENUM)
#undef RADAR_STATUS_ENUM
} radar_status;

#ifdef __cplusplus
extern "C" {
#endif

/* [this rank] One short English phrase; never NULL. */
const char *radar_strerror(radar_status status);
/* [this rank] The process exit code that stands for a status (sysexits.h where it has one). */
int radar_exit_code(radar_status status);

#ifdef __cplusplus
}
#endif
#endif
