#include "launch/report/figures.h"

#include <math.h>
#include <string.h>

#define EVAL(kind, more) "radar eval " kind " -m MODEL -f TEXT " more " --out DIR"

const report_figure report_figure_list[] = {
    {"loss-budget", "Loss above dense against the budget",
     "How much worse the next token is predicted when each query head reads only so many chosen "
     "tokens. 0 is as good as dense; "
     "lower is better. Means over tokens paired with dense; bars: one standard error.",
     EVAL("ppl", "--attention dense,radar --scorer sketch,mean,rf,exact --budget 256,512,1024"),
     figure_loss_budget, NULL},
    {"loss-bytes", "Loss above dense against bytes read",
     "The same losses against what a step reads: keys, values and summaries. The lower left is "
     "where one wants to be; dense "
     "stands at 0, to the right.",
     EVAL("ppl", "--attention dense,radar --scorer sketch,mean,rf,exact --budget 256,512,1024"),
     figure_loss_bytes, NULL},
    {"loss-length", "Loss above dense against the context",
     "Whether a budget that is kept loses more as the context grows. Bars: one standard error.",
     EVAL("ppl", "--attention dense,radar --length 2048,4096,8192"), figure_loss_length, NULL},
    {"position", "Loss above dense by position",
     "Where in the text the loss arises: a line that climbs loses more the more there is to choose "
     "from.",
     EVAL("ppl", "--attention dense,radar"), figure_position, NULL},
    {"time", "Time per token against the context",
     "Both axes are logarithmic: a straight line is a power of the context, t^1 is linear. The "
     "fitted exponent stands beside "
     "each name. One token at a time.",
     EVAL("ppl", "--attention dense,radar --length 2048,4096,8192 --batch 1"), figure_time, NULL},
    {"recall", "Recall by layer and head",
     "The share of the truly best segments that a scorer finds, for each layer (across) and query "
     "head (down). Bright is good; "
     "dark columns are layers where it guesses.",
     EVAL("recall", "--scorer sketch,mean,rf,exact"), figure_recall, NULL},
    {"heat", "Where attention goes, and what was chosen",
     "Each strip is a query: the colour is the share of its softmax mass in each segment, the "
     "marks below are the segments that "
     "were read. Bright places without a mark were missed.",
     EVAL("recall", "--scorer sketch,mean"), figure_heat, NULL},
    {NULL, "Hit rates",
     "Recall of the best k segments, whether the heaviest one has the best score (hit@1) or one of "
     "the three best (hit@3), and the share of the softmax mass that was read beside what the best "
     "choice reads.",
     EVAL("recall", "--scorer sketch,mean,rf,exact"), NULL, table_hits},
    {"scores", "Distribution of attention weights",
     "Most keys have weights near zero (left), most of the mass is in a few (right): the gap "
     "between the two curves is why "
     "selection can work.",
     EVAL("stats", ""), figure_scores, NULL},
    {NULL, "Statistics over layers and heads",
     "Norms, spread of the logits and how many tokens a query really reads.", EVAL("stats", ""),
     NULL, table_stats},
    {"needle", "Needle: facts hidden in a long text",
     "A fact is inserted at a depth (down, 0 is the beginning) of texts of several lengths "
     "(across) and asked for at the end. "
     "Bright is found, dark is lost.",
     "radar eval needle -m MODEL -f TEXT --attention dense,radar --scorer sketch,mean,rf --out DIR",
     figure_needle, NULL},
    {"ruler", "Tasks: retrieval, tracing, aggregation",
     "niah: needles of several kinds; vt: tracing a variable; cwe and fwe: common and frequent "
     "words, where selection is known "
     "to fail since every token counts.",
     "radar eval ruler -m MODEL -f TEXT --attention dense,radar --out DIR", figure_ruler, NULL},
    {NULL, "Tasks in figures", "Exact answers and loss of the answer by task.",
     "radar eval ruler -m MODEL -f TEXT --attention dense,radar --out DIR", NULL, table_ruler},
    {"n-sweep", "Random features: loss against their number",
     "What the paper's estimator gains from more features. Bars: one standard error.",
     EVAL("ppl", "--attention dense,radar --scorer rf --rf-features 256,512,1024,2048"),
     figure_loss_features, NULL},
    {"k-sweep", "Loss against the number of segments",
     "What more chosen segments per query head gain. Bars: one standard error.",
     EVAL("ppl", "--attention dense,radar --segments 16,32,64"), figure_loss_segments, NULL},
    {"calibrate", "Coverage: estimated against true",
     "Each mark is a query head at a step: the share of the softmax mass that was read, as the run "
     "itself "
     "estimates it, over the share measured "
     "with every key. On the diagonal the estimate is right.",
     EVAL("calibrate", "--scorer sketch"), figure_calibrate, NULL},
    {NULL, "Errors of the coverage", "Of the estimate above, by setting and length.",
     EVAL("calibrate", "--scorer sketch"), NULL, table_calibrate},
    {"bound", "The random-feature estimate and its bound",
     "Error over the number of features n beside what theory predicts, and over s: beyond s = 2 ln "
     "n one feature rules the "
     "estimate and more of them hardly help.",
     "radar eval bound -m MODEL -f TEXT --out DIR", figure_bound, NULL},
    {"sketch", "The sketch's error by bits",
     "Measured error of q.k beside the formula |q||k - m| 2^-b / \xe2\x88\x9a"
     "d, m the mean of the key's block: each bit halves it.",
     "radar eval bound -m MODEL -f TEXT --out DIR", figure_sketch, NULL},
    {NULL, "Free generation",
     "Text generated without a prompt. Distinct n: share of n-token runs that are different; "
     "repetition and the longest repeat: "
     "less is better; loss under dense: whether dense finds the text likely.",
     "radar eval generate -m MODEL --attention dense,radar --out DIR", NULL, table_generate},
    {NULL, "All settings", "Every row of the folder.", "radar eval", NULL, table_settings},
    {NULL, "Commands", "What made these rows, to run again.", "radar eval", NULL, table_commands},
};
const int report_figure_count = sizeof report_figure_list / sizeof report_figure_list[0];

const report_figure *report_figure_named(const char *name) {
    for (int i = 0; i < report_figure_count; i++)
        if (report_figure_list[i].name != NULL && strcmp(report_figure_list[i].name, name) == 0)
            return &report_figure_list[i];
    return NULL;
}

void report_picture(markup *m, const report_figure *f, const markup *body, double height,
                    const char *note, bool alone) {
    const double head = alone ? 24 : 0;
    markup_format(m,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
                  "width=\"%s\" role=\"img\" aria-label=\"",
                  SVG_WIDTH, ceil(height + head), alone ? "720" : "100%");
    markup_text(m, f->title);
    markup_add(m, "\">\n<title>");
    markup_text(m, f->title);
    markup_add(m, "</title>\n<desc>");
    markup_text(m, f->see);
    markup_add(m, " ");
    markup_text(m, note);
    markup_add(m, "</desc>\n");
    if (alone) {
        markup_add(m, "<style>");
        svg_style(m, true);
        markup_add(m, "</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n");
        svg_text(m, 4, 16, "start", 13, SVG_WIDTH - 8, f->title);
        markup_format(m, "<g transform=\"translate(0 %.0f)\">\n", head);
    }
    markup_append(m, body);
    markup_add(m, alone ? "</g>\n</svg>\n" : "</svg>\n");
}
