/* method.h - which rows are the same method: the name of a line in a picture, and what a method costs. */
#ifndef RADAR_LAUNCH_REPORT_METHOD_H
#define RADAR_LAUNCH_REPORT_METHOD_H

#include "launch/report/rows.h"

enum { METHOD_NAME = 160 };

/* [this rank] Notes in each row the settings in which rows of its method differ; only those become part of its name. */
void method_compare(row_list *rows);
/* "sketch", "rf pair", "dense": the method and every setting that tells it from others of the list, but for those in `ignored`
 * ("|budget|segments|"), which a picture shows by other means ("reach": the window of streaming).  Returns name. */
const char *method_name(char name[METHOD_NAME], const eval_row *row, const char *ignored);
bool method_is_dense(const eval_row *row);
/* Tokens of chosen segments per query head: "budget_tokens", --budget, --segments times a segment, or what auto stands for; NaN for
 * dense and streaming, which choose none. */
double method_budget(const eval_row *row);

#endif
