#include "runtime/status.h"

const char *radar_strerror(radar_status status) {
    switch (status) {
#define RADAR_STATUS_TEXT(name, code, text) \
    case RADAR_##name: \
        return text;
        RADAR_STATUS_LIST(RADAR_STATUS_TEXT)
#undef RADAR_STATUS_TEXT
    }
    return "unknown status";
}

int radar_exit_code(radar_status status) {
    switch (status) {
#define RADAR_STATUS_CODE(name, code, text) \
    case RADAR_##name: \
        return code;
        RADAR_STATUS_LIST(RADAR_STATUS_CODE)
#undef RADAR_STATUS_CODE
    }
    return 70;
}
