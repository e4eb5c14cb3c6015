/* ==== chat.c: a conversation in the model's own format ==============================================================
 * A GGUF carries a template in the Jinja language that writes a conversation as the model was trained to see it.  Here there is no engine for
 * it: a table of the common formats, found by marks that only their templates contain.  Each row says what stands before and after a
 * turn of each role.
 *
 *     <|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n
 *     -- control --     text  -- control --
 *
 * Control tokens of the format are put in by id.  What stands between two of them, words of the format and text of a message alike, is
 * tokenized as one piece of plain text, as a tokenizer cuts the whole: merges across their border are those the model knows, while
 * text from a user can't become a control token.  (Tokens of type USER, such as <think>, are found in any text, as the tokenizer has it.)  Where the vocabulary has no such control token (<|user|> in TinyLlama), its name is
 * text like the rest, and can be written by a user too: the format's weakness, not ours.
 *
 * `between` stands between turns and before the reply, so what is rendered ends with a turn's end token.  Thus pieces fit together:
 * a conversation, the model's reply with its end token, and what is rendered with `continued` are the whole conversation.
 *
 * There is no clock here.  Templates that write today's date get their own default (Llama 3.1, 3.2: 26 Jul 2024) or no date (SmolLM3's line is
 * left out, Granite's and gpt-oss's too, and so are Mistral's default system texts).  Templates refuse some orders of roles; we take any, but a system message has to come
 * first where it isn't a turn of its own.  Trimming is that of ASCII white space.  Tools are left to a real template engine. */
#pragma once
#include "tokenizer.c"

#define SMOLQ__C(token)  "\1" token "\2" /* a control token */
#define SMOLQ__END_TOKEN "\3"            /* the vocabulary's end token: eos */
#define SMOLQ__BOS_TOKEN "\4"            /* its begin token, for vocabularies that don't add it themselves */

enum { SMOLQ__SYSTEM_TURN, SMOLQ__SYSTEM_SMOLLM3, SMOLQ__SYSTEM_IN_FIRST, SMOLQ__SYSTEM_IN_LAST }; /* a turn, or before the text of a user's */
enum { SMOLQ__TRIM_SYSTEM = 1, SMOLQ__TRIM_USER = 2, SMOLQ__TRIM_REPLY = 4, SMOLQ__TRIM_ALL = 7,
       SMOLQ__NO_LINES = 8,    /* replies without leading newlines */
       SMOLQ__NO_THOUGHTS = 16, /* earlier replies without what stands before </think> */
       SMOLQ__OPENING = 32     /* the preamble stands before the system turn, and where there is none */
};

typedef struct smolq__chat {
    const char *name;
    const char *marks;          /* lines that the template contains, or with ! doesn't */
    int32_t     system_kind, flags;
    const char *system[2], *user[2], *assistant[2]; /* before and after the text */
    const char *between;
    const char *reply;          /* opens the assistant's turn */
    const char *no_think;       /* goes on after it when thinking is not asked for */
    const char *preamble;       /* begins the first system turn */
    const char *default_system; /* text of the system turn that is there without a system message; NULL: none */
} smolq__chat;

#define SMOLQ__IM(role)     SMOLQ__C("<|im_start|>") role "\n"
#define SMOLQ__IM_END       SMOLQ__C("<|im_end|>")
#define SMOLQ__IM_TURNS     { SMOLQ__IM("user"), SMOLQ__IM_END }, { SMOLQ__IM("assistant"), SMOLQ__IM_END }, "\n", SMOLQ__IM("assistant")
#define SMOLQ__IM_SYSTEM    { SMOLQ__IM("system"), SMOLQ__IM_END }
#define SMOLQ__NO_THOUGHT   SMOLQ__C("<think>") "\n\n" SMOLQ__C("</think>") "\n"
#define SMOLQ__HEAD(role)   SMOLQ__C("<|start_header_id|>") role SMOLQ__C("<|end_header_id|>") "\n\n"
#define SMOLQ__EOT          SMOLQ__C("<|eot_id|>")
#define SMOLQ__HEAD_TURNS   { SMOLQ__HEAD("system"), SMOLQ__EOT }, { SMOLQ__HEAD("user"), SMOLQ__EOT }, { SMOLQ__HEAD("assistant"), SMOLQ__EOT }, "", SMOLQ__HEAD("assistant")
#define SMOLQ__INST         SMOLQ__C("[INST]")
#define SMOLQ__INST_END     SMOLQ__C("[/INST]")
#define SMOLQ__SMOLLM3      SMOLQ__IM("system") "## Metadata\n\nKnowledge Cutoff Date: June 2025\nReasoning Mode: "

#define SMOLQ__ROLE(role)   SMOLQ__C("<|start_of_role|>") role SMOLQ__C("<|end_of_role|>")
#define SMOLQ__ROLE_END     SMOLQ__C("<|end_of_text|>")
#define SMOLQ__ROLE_TURNS   { SMOLQ__ROLE("system"), SMOLQ__ROLE_END }, { SMOLQ__ROLE("user"), SMOLQ__ROLE_END }, { SMOLQ__ROLE("assistant"), SMOLQ__ROLE_END }, "\n", SMOLQ__ROLE("assistant")
#define SMOLQ__SAYS(role)   SMOLQ__C("<|start|>") role SMOLQ__C("<|message|>")
#define SMOLQ__FINAL        SMOLQ__C("<|channel|>") "final" SMOLQ__C("<|message|>")
#define SMOLQ__SEP(role)    SMOLQ__C("<|im_start|>") role SMOLQ__C("<|im_sep|>")

/* Rows of one name are variants; the first whose marks are there is taken, and of a name that the caller gives without a template the last. */
static const smolq__chat smolq__chats[] = {
    /* name    marks
     *         system kind, flags
     *         system, user, assistant: before and after; between; reply; no think; preamble; default system */
    { "smollm3", "<|im_start|>\nKnowledge Cutoff Date\nxml_tools", /* as published: the system turn is not closed */
      SMOLQ__SYSTEM_SMOLLM3, SMOLQ__NO_LINES, { SMOLQ__SMOLLM3, "\n" }, SMOLQ__IM_TURNS, SMOLQ__NO_THOUGHT, NULL, "" },
    { "smollm3", "<|im_start|>\nKnowledge Cutoff Date",
      SMOLQ__SYSTEM_SMOLLM3, SMOLQ__NO_LINES, { SMOLQ__SMOLLM3, "\n\n" SMOLQ__IM_END }, SMOLQ__IM_TURNS, SMOLQ__NO_THOUGHT, NULL, "" },
    { "chatml", "<|im_start|>assistant\\n<think>\\n\nenable_thinking", /* QwQ, edited so that it can be told not to think */
      SMOLQ__SYSTEM_TURN, SMOLQ__NO_THOUGHTS, SMOLQ__IM_SYSTEM, SMOLQ__IM_TURNS SMOLQ__C("<think>") "\n", SMOLQ__C("</think>"), NULL, NULL },
    { "chatml", "<|im_start|>assistant\\n<think>\\n", /* QwQ, Qwen3-Thinking: always thinks */
      SMOLQ__SYSTEM_TURN, SMOLQ__NO_THOUGHTS, SMOLQ__IM_SYSTEM, SMOLQ__IM_TURNS SMOLQ__C("<think>") "\n", NULL, NULL, NULL },
    { "chatml", "<|im_start|>\nenable_thinking\n</think>", /* Qwen3 */
      SMOLQ__SYSTEM_TURN, SMOLQ__NO_THOUGHTS, SMOLQ__IM_SYSTEM, SMOLQ__IM_TURNS, SMOLQ__NO_THOUGHT "\n", NULL, NULL },
    { "chatml", "<|im_start|>\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.", /* Qwen2.5 */
      SMOLQ__SYSTEM_TURN, 0, SMOLQ__IM_SYSTEM, SMOLQ__IM_TURNS, NULL, NULL, "You are Qwen, created by Alibaba Cloud. You are a helpful assistant." },
    { "chatml", "<|im_start|>\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face", /* SmolLM2 */
      SMOLQ__SYSTEM_TURN, 0, SMOLQ__IM_SYSTEM, SMOLQ__IM_TURNS, NULL, NULL, "You are a helpful AI assistant named SmolLM, trained by Hugging Face" },
    { "chatml", "<|im_start|>\nYou are a helpful assistant.<|im_end|>", /* Qwen2 */
      SMOLQ__SYSTEM_TURN, 0, SMOLQ__IM_SYSTEM, SMOLQ__IM_TURNS, NULL, NULL, "You are a helpful assistant." },
    { "chatml", "<|im_start|>\n!<|im_sep|>\n!<end_of_utterance>",
      SMOLQ__SYSTEM_TURN, 0, SMOLQ__IM_SYSTEM, SMOLQ__IM_TURNS, NULL, NULL, NULL },
    { "llama3", "<|start_header_id|>\nCutting Knowledge Date", /* Llama 3.1, 3.2, 3.3 */
      SMOLQ__SYSTEM_TURN, SMOLQ__TRIM_ALL, SMOLQ__HEAD_TURNS, NULL, "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n", "" },
    { "llama3", "<|start_header_id|>",
      SMOLQ__SYSTEM_TURN, SMOLQ__TRIM_ALL, SMOLQ__HEAD_TURNS, NULL, NULL, NULL },
    { "mistral", "[SYSTEM_PROMPT]\n[INST] ", /* v7 of SentencePiece models, with spaces */
      SMOLQ__SYSTEM_TURN, 0, { SMOLQ__C("[SYSTEM_PROMPT]") " ", SMOLQ__C("[/SYSTEM_PROMPT]") }, { SMOLQ__INST " ", SMOLQ__INST_END }, { " ", SMOLQ__END_TOKEN }, "", "", NULL, NULL, NULL },
    { "mistral", "[SYSTEM_PROMPT]\n[INST]", /* v7-tekken */
      SMOLQ__SYSTEM_TURN, 0, { SMOLQ__C("[SYSTEM_PROMPT]"), SMOLQ__C("[/SYSTEM_PROMPT]") }, { SMOLQ__INST, SMOLQ__INST_END }, { "", SMOLQ__END_TOKEN }, "", "", NULL, NULL, NULL },
    { "mistral", "\"[INST]\"", /* v3-tekken: Nemo */
      SMOLQ__SYSTEM_IN_LAST, 0, { "", "\n\n" }, { SMOLQ__INST, SMOLQ__INST_END }, { "", SMOLQ__END_TOKEN }, "", "", NULL, NULL, NULL },
    { "mistral", " [INST] ", /* v1 */
      SMOLQ__SYSTEM_IN_FIRST, 0, { "", "\n\n" }, { " " SMOLQ__INST " ", " " SMOLQ__INST_END }, { " ", SMOLQ__END_TOKEN }, "", "", NULL, NULL, NULL },
    { "mistral", "'[INST] '\n' [/INST]'\n!<<SYS>>", /* v1 as Mistral 7B v0.1 first published it */
      SMOLQ__SYSTEM_IN_FIRST, 0, { "", "\n\n" }, { SMOLQ__INST " ", " " SMOLQ__INST_END }, { "", SMOLQ__END_TOKEN }, "", "", NULL, NULL, NULL },
    { "mistral", "[INST]\n[AVAILABLE_TOOLS]", /* v3 */
      SMOLQ__SYSTEM_IN_LAST, SMOLQ__TRIM_REPLY, { "", "\n\n" }, { SMOLQ__INST " ", SMOLQ__INST_END }, { " ", SMOLQ__END_TOKEN }, "", "", NULL, NULL, NULL },
    { "zephyr", "<|user|>\n<|assistant|>\nmessage['content'] + eos_token\n!<|end|>\n!message['content'] + '\\n'", /* TinyLlama too */
      SMOLQ__SYSTEM_TURN, 0, { SMOLQ__C("<|system|>") "\n", SMOLQ__END_TOKEN }, { SMOLQ__C("<|user|>") "\n", SMOLQ__END_TOKEN }, { SMOLQ__C("<|assistant|>") "\n", SMOLQ__END_TOKEN }, "\n",
      SMOLQ__C("<|assistant|>") "\n", NULL, NULL, NULL },
    { "phi3", "'<|' + message['role'] + '|>' + message['content']\n<|assistant|>\n<|end|>", /* Phi-4-mini: no newlines */
      SMOLQ__SYSTEM_TURN, 0, { SMOLQ__C("<|system|>"), SMOLQ__C("<|end|>") }, { SMOLQ__C("<|user|>"), SMOLQ__C("<|end|>") }, { SMOLQ__C("<|assistant|>"), SMOLQ__C("<|end|>") }, "",
      SMOLQ__C("<|assistant|>"), NULL, NULL, NULL },
    { "phi3", "<|user|>\n<|assistant|>\n<|end|>",
      SMOLQ__SYSTEM_TURN, 0, { SMOLQ__C("<|system|>") "\n", SMOLQ__C("<|end|>") }, { SMOLQ__C("<|user|>") "\n", SMOLQ__C("<|end|>") },
      { SMOLQ__C("<|assistant|>") "\n", SMOLQ__C("<|end|>") }, "\n", SMOLQ__C("<|assistant|>") "\n", NULL, NULL, NULL },
    { "gemma", "<start_of_turn>",
      SMOLQ__SYSTEM_IN_FIRST, SMOLQ__TRIM_USER | SMOLQ__TRIM_REPLY, { "", "\n\n" }, { SMOLQ__C("<start_of_turn>") "user\n", SMOLQ__C("<end_of_turn>") },
      { SMOLQ__C("<start_of_turn>") "model\n", SMOLQ__C("<end_of_turn>") }, "\n", SMOLQ__C("<start_of_turn>") "model\n", NULL, NULL, NULL },
    { "granite", "<|start_of_role|>\nKnowledge Cutoff Date: April 2024. Today's Date", /* 3.3 */
      SMOLQ__SYSTEM_TURN, 0, SMOLQ__ROLE_TURNS, NULL, NULL, "Knowledge Cutoff Date: April 2024. You are Granite, developed by IBM. You are a helpful AI assistant." },
    { "granite", "<|start_of_role|>\nYou are a helpful assistant. Please ensure responses are professional, accurate, and safe.", /* 4.0 */
      SMOLQ__SYSTEM_TURN, 0, SMOLQ__ROLE_TURNS, NULL, NULL, "You are a helpful assistant. Please ensure responses are professional, accurate, and safe." },
    { "granite", "<|start_of_role|>",
      SMOLQ__SYSTEM_TURN, 0, SMOLQ__ROLE_TURNS, NULL, NULL, NULL },
    { "gpt-oss", "<|start|>\n<|message|>\n<|channel|>", /* Harmony: thinking goes to a channel of its own, and without it the reply is opened in the final one */
      SMOLQ__SYSTEM_TURN, SMOLQ__OPENING, { SMOLQ__SAYS("developer") "# Instructions\n\n", "\n\n" SMOLQ__C("<|end|>") }, { SMOLQ__SAYS("user"), SMOLQ__C("<|end|>") },
      { SMOLQ__C("<|start|>") "assistant" SMOLQ__FINAL, SMOLQ__C("<|end|>") }, "", SMOLQ__C("<|start|>") "assistant", SMOLQ__FINAL,
      SMOLQ__SAYS("system") "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n\nReasoning: medium\n\n"
      "# Valid channels: analysis, commentary, final. Channel must be included for every message." SMOLQ__C("<|end|>"), NULL },
    { "olmo2", "<|user|>\n<|assistant|>\nmessage['content'] + '\\n'\nmessage['content'] + eos_token", /* Tulu's: only replies have an end token */
      SMOLQ__SYSTEM_TURN, SMOLQ__OPENING, { SMOLQ__C("<|system|>") "\n", "" }, { SMOLQ__C("<|user|>") "\n", "" }, { SMOLQ__C("<|assistant|>") "\n", SMOLQ__END_TOKEN }, "\n",
      SMOLQ__C("<|assistant|>") "\n", NULL, SMOLQ__BOS_TOKEN, NULL },
    { "phi4", "<|im_start|>\n<|im_sep|>",
      SMOLQ__SYSTEM_TURN, 0, { SMOLQ__SEP("system"), SMOLQ__IM_END }, { SMOLQ__SEP("user"), SMOLQ__IM_END }, { SMOLQ__SEP("assistant"), SMOLQ__IM_END }, "", SMOLQ__SEP("assistant"), NULL, NULL, NULL },
};

/* SmolLM3's instructions when there are none, in its two modes; the words are the template's. */
static const char smolq__smollm3_short[] = "You are a helpful AI assistant named SmolLM, trained by Hugging Face.";
static const char smolq__smollm3_long[] =
    " Your role as an assistant involves thoroughly exploring questions through a systematic thinking process before providing the final precise and accurate "
    "solutions. This requires engaging in a comprehensive cycle of analysis, summarizing, exploration, reassessment, reflection, backtracking, and iteration to "
    "develop well-considered thinking process. Please structure your response into two main sections: Thought and Solution using the specified format: <think> "
    "Thought section </think> Solution section. In the Thought section, detail your reasoning process in steps. Each step should include detailed considerations such "
    "as analysing questions, summarizing relevant findings, brainstorming new ideas, verifying the accuracy of the current steps, refining any errors, and revisiting "
    "previous steps. In the Solution section, based on various attempts, explorations, and reflections from the Thought section, systematically present the final "
    "solution that you deem correct. The Solution section should be logical, accurate, and concise and detail necessary steps needed to reach the conclusion.";

/* ---- which format ---- */

static int smolq__contains(smolq__text text, const char *part, size_t n)
{
    const char *p = text.p, *end = p ? p + text.n : NULL; /* NULL: the file has no template */
    while (p && (size_t)(end - p) >= n) {
        p = (const char *)memchr(p, part[0], (size_t)(end - p) - n + 1);
        if (!p) return 0;
        if (memcmp(p, part, n) == 0) return 1;
        p++;
    }
    return 0;
}

static int smolq__has_marks(smolq__text text, const char *marks)
{
    while (*marks) {
        size_t n = strcspn(marks, "\n"), not_there = marks[0] == '!';
        if (smolq__contains(text, marks + not_there, n - not_there) == (int)not_there) return 0;
        marks += n + (marks[n] == '\n');
    }
    return 1;
}

/* The row for the template, among those of the name if one is given. */
static const smolq__chat *smolq__chat_find(const smolq_vocab *vocab, const char *name)
{
    const smolq_vocab_facts *facts = smolq_vocab_info(vocab);
    const smolq__chat *last = NULL;
    smolq__text text;
    size_t i;
    text.p = facts->chat_template;
    text.n = facts->chat_template ? facts->chat_template_bytes : 0;
    for (i = 0; i < sizeof smolq__chats / sizeof *smolq__chats; i++) {
        const smolq__chat *row = &smolq__chats[i];
        if (name && strcmp(row->name, name) != 0) continue;
        if (smolq__has_marks(text, row->marks)) return row;
        last = row;
    }
    return name ? last : NULL;
}

SMOLQ_API const char *smolq_chat_format(const smolq_vocab *vocab)
{
    const smolq__chat *row = smolq__chat_find(vocab, NULL);
    return row ? row->name : NULL;
}

static smolq_result smolq__fail_format(const smolq_vocab *vocab, const char *name, smolq_error *err)
{
    char known[128];
    size_t i, used = 0;
    smolq__quoted quoted;
    for (i = 0; i < sizeof smolq__chats / sizeof *smolq__chats; i++)
        if (i == 0 || strcmp(smolq__chats[i].name, smolq__chats[i - 1].name) != 0)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", smolq__chats[i].name);
    if (name) return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "chat format '%s' is not known; known: %s", smolq__quote(&quoted, name, strlen(name)), known);
    return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "%s; known: %s; options.format can name one",
                       smolq_vocab_info(vocab)->chat_template ? "the chat template is of no known format" : "the file has no chat template", known);
}

/* ---- text and control tokens to ids ---- */

typedef struct smolq__chat_writer {
    const smolq_vocab *vocab;
    const smolq__chat *row;
    char        *run;             /* plain text since the last control token; NULL: only measure */
    uint64_t     n_run, longest, total; /* bytes; total counts 4 for each run and control token */
    int32_t     *ids;             /* [room] */
    size_t       room, n_ids;     /* n_ids goes on when room is used up */
    int          eats;            /* the last control token swallows the spaces behind it, as Phi-3's do */
    smolq_result result;
    smolq_error *err;
} smolq__chat_writer;

static int smolq__is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || (c >= '\x1c' && c <= '\x1f'); }

static void smolq__chat_text(smolq__chat_writer *w, const char *p, size_t n)
{
    if (w->eats && w->n_run == 0)
        for (; n > 0 && (*p == ' ' || (*p >= '\t' && *p <= '\r')); p++) n--;
    if (w->result != SMOLQ_OK || n == 0) return;
    if (w->run) memcpy(w->run + w->n_run, p, n);
    if (!smolq__add(w->n_run, n, &w->n_run) || !smolq__add(w->total, n, &w->total)) w->result = smolq__fail(w->err, SMOLQ_E_MEMORY, "the messages are longer than memory");
}

static void smolq__chat_flush(smolq__chat_writer *w)
{
    size_t n = 0, room = w->n_ids < w->room ? w->room - w->n_ids : 0;
    smolq_error failure;
    if (w->longest < w->n_run) w->longest = w->n_run;
    if (w->run && w->n_run && w->result == SMOLQ_OK) {
        smolq_result result = smolq_tokenize(w->vocab, w->run, (size_t)w->n_run, 0, room ? w->ids + w->n_ids : NULL, room, &n, &failure);
        if (result != SMOLQ_OK && result != SMOLQ_E_BUFFER) {
            w->result = result;
            if (w->err) *w->err = failure;
        } else {
            w->n_ids += n;
        }
    }
    w->n_run = 0;
    w->total += 4; /* a space prefix of three bytes, and the control token that follows */
}

static void smolq__chat_control(smolq__chat_writer *w, int32_t id)
{
    smolq__chat_flush(w);
    if (w->n_ids < w->room) w->ids[w->n_ids] = id;
    w->n_ids++;
    w->eats = (w->vocab->kinds[id] & SMOLQ__KIND_RSTRIP) != 0;
}

/* A piece of a row: text with control tokens in it. */
static void smolq__chat_piece(smolq__chat_writer *w, const char *piece)
{
    while (piece && *piece) {
        const smolq_vocab_facts *facts = smolq_vocab_info(w->vocab);
        size_t n = strcspn(piece, "\1\3\4");
        smolq__chat_text(w, piece, n);
        piece += n;
        if (*piece == '\1') {
            smolq_token token;
            int32_t id;
            n = strcspn(++piece, "\2");
            id = smolq_token_find(w->vocab, piece, n);
            if (id >= 0 && smolq_token_info(w->vocab, id, &token, NULL) == SMOLQ_OK && (token.type == SMOLQ_TOKEN_CONTROL || token.type == SMOLQ_TOKEN_USER)) smolq__chat_control(w, id);
            else smolq__chat_text(w, piece, n);
            piece += n + 1;
        } else if (*piece == '\3') {
            if (facts->eos >= 0) smolq__chat_control(w, facts->eos);
            else if (w->result == SMOLQ_OK) w->result = smolq__fail(w->err, SMOLQ_E_MISSING, "chat format %s ends turns with the end token, and the vocabulary has none", w->row->name);
            piece++;
        } else if (*piece == '\4') {
            if (!facts->adds_bos && facts->bos >= 0) smolq__chat_control(w, facts->bos);
            piece++;
        }
    }
}

/* ---- turns ---- */

static smolq__text smolq__trim(smolq__text text)
{
    while (text.n > 0 && smolq__is_space(text.p[text.n - 1])) text.n--;
    while (text.n > 0 && smolq__is_space(text.p[0])) text.p++, text.n--;
    return text;
}

/* What stands behind the last </think>. */
static smolq__text smolq__no_thoughts(smolq__text text)
{
    size_t i;
    for (i = text.n; i >= 8; i--)
        if (memcmp(text.p + i - 8, "</think>", 8) == 0) {
            text.p += i;
            text.n -= i;
            while (text.n > 0 && text.p[0] == '\n') text.p++, text.n--;
            break;
        }
    return text;
}

static smolq__text smolq__message_text(const smolq__chat *row, const smolq_message *message)
{
    int reply = message->role[0] == 'a';
    int32_t trim = reply ? SMOLQ__TRIM_REPLY : message->role[0] == 'u' ? SMOLQ__TRIM_USER : SMOLQ__TRIM_SYSTEM;
    smolq__text text;
    text.p = message->text;
    text.n = message->bytes;
    if (reply && (row->flags & SMOLQ__NO_THOUGHTS)) text = smolq__no_thoughts(text);
    if (reply && (row->flags & SMOLQ__NO_LINES))
        while (text.n > 0 && text.p[0] == '\n') text.p++, text.n--;
    return row->flags & trim ? smolq__trim(text) : text;
}

/* Length of the flag that p begins with: SmolLM3 reads its mode from the system message. */
static size_t smolq__think_flag(const char *p, size_t n)
{
    if (n >= 9 && memcmp(p, "/no_think", 9) == 0) return 9;
    return n >= 6 && memcmp(p, "/think", 6) == 0 ? 6 : 0;
}

/* Mode and instructions of SmolLM3's system turn; the flags themselves are not shown.  Returns whether to think. */
static int smolq__smollm3(smolq__chat_writer *w, smolq__text text, int think)
{
    size_t i, n = 0, end = 0, flag, from;
    if (smolq__contains(text, "/no_think", 9)) think = 0;
    else if (smolq__contains(text, "/think", 6)) think = 1;
    for (i = 0; i < text.n; i += flag ? flag : 1) { /* end: behind the last character that isn't space */
        flag = smolq__think_flag(text.p + i, text.n - i);
        if (!flag && !smolq__is_space(text.p[i])) end = i + 1;
    }
    smolq__chat_piece(w, think ? "/think\n\n## Custom Instructions\n\n" : "/no_think\n\n## Custom Instructions\n\n");
    for (i = from = 0; i < end; i += flag ? flag : 1) {
        flag = smolq__think_flag(text.p + i, text.n - i);
        if (flag) {
            smolq__chat_text(w, text.p + from, i - from);
            from = i + flag;
        }
        n += !flag;
    }
    if (n) smolq__chat_text(w, text.p + from, end - from);
    else smolq__chat_piece(w, smolq__smollm3_short);
    if (!n && think) smolq__chat_piece(w, smolq__smollm3_long);
    return think;
}

static void smolq__chat_render(smolq__chat_writer *w, const smolq_message *messages, size_t n_messages, const smolq_chat_options *o)
{
    const smolq__chat *row = w->row;
    const smolq_vocab_facts *facts = smolq_vocab_info(w->vocab);
    int folds = row->system_kind == SMOLQ__SYSTEM_IN_FIRST || row->system_kind == SMOLQ__SYSTEM_IN_LAST;
    int has_system = n_messages > 0 && messages[0].role[0] == 's', think = o->think != 0;
    size_t i, host = 0; /* the user's message that takes the system message in */
    smolq__text text = { NULL, 0 };
    if (!o->continued && facts->adds_bos && facts->bos >= 0) smolq__chat_control(w, facts->bos);
    smolq__chat_piece(w, o->continued ? row->between : row->flags & SMOLQ__OPENING ? row->preamble : NULL);
    if (!folds && (has_system || (row->default_system && !o->continued))) {
        if (has_system) text = smolq__message_text(row, &messages[0]);
        smolq__chat_piece(w, row->system[0]);
        if (!o->continued && !(row->flags & SMOLQ__OPENING)) smolq__chat_piece(w, row->preamble);
        if (row->system_kind == SMOLQ__SYSTEM_SMOLLM3) think = smolq__smollm3(w, text, think);
        else if (has_system) smolq__chat_text(w, text.p, text.n);
        else smolq__chat_piece(w, row->default_system);
        smolq__chat_piece(w, row->system[1]);
        if (n_messages > (size_t)has_system || !o->no_reply) smolq__chat_piece(w, row->between);
    }
    for (i = 1; folds && has_system && i < n_messages; i++)
        if (messages[i].role[0] == 'u' && (host == 0 || row->system_kind == SMOLQ__SYSTEM_IN_LAST)) host = i;
    for (i = (size_t)has_system; i < n_messages; i++) {
        char role = messages[i].role[0];
        const char *const *around = role == 'u' ? row->user : role == 'a' ? row->assistant : row->system;
        smolq__chat_piece(w, around[0]);
        if (host && i == host) {
            text = smolq__message_text(row, &messages[0]);
            smolq__chat_text(w, text.p, text.n);
            smolq__chat_piece(w, row->system[1]);
        }
        if (role == 'a' && row->system_kind == SMOLQ__SYSTEM_SMOLLM3 && !think) smolq__chat_piece(w, row->no_think);
        text = smolq__message_text(row, &messages[i]);
        smolq__chat_text(w, text.p, text.n);
        smolq__chat_piece(w, around[1]);
        if (i + 1 < n_messages || !o->no_reply) smolq__chat_piece(w, row->between);
    }
    if (!o->no_reply) {
        smolq__chat_piece(w, row->reply);
        if (!think) smolq__chat_piece(w, row->no_think);
    }
    smolq__chat_flush(w);
}

static smolq_result smolq__check_messages(const smolq__chat *row, const smolq_message *messages, size_t n_messages, smolq_error *err)
{
    int folds = row->system_kind == SMOLQ__SYSTEM_IN_FIRST || row->system_kind == SMOLQ__SYSTEM_IN_LAST, has_user = 0;
    smolq__quoted quoted;
    size_t i;
    for (i = 0; i < n_messages; i++) {
        const char *role = messages[i].role;
        int is_system = role && strcmp(role, "system") == 0;
        if (!role || (!is_system && strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0))
            return smolq__fail(err, SMOLQ_E_ARGUMENT, "chat message %llu: role is '%s', expected system, user or assistant", (unsigned long long)i, role ? smolq__quote(&quoted, role, strlen(role)) : "NULL");
        if (!messages[i].text && messages[i].bytes) return smolq__fail(err, SMOLQ_E_ARGUMENT, "chat message %llu: text is NULL, expected %llu bytes", (unsigned long long)i, (unsigned long long)messages[i].bytes);
        if (is_system && i > 0 && row->system_kind != SMOLQ__SYSTEM_TURN)
            return smolq__fail(err, SMOLQ_E_ARGUMENT, "chat message %llu: in format %s a system message must be the first", (unsigned long long)i, row->name);
        has_user |= role[0] == 'u';
    }
    if (folds && n_messages > 0 && messages[0].role[0] == 's' && !has_user)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "chat format %s puts the system message into a user's message, and there is none", row->name);
    return SMOLQ_OK;
}

/* Renders twice: to learn how much memory it takes, then for the ids, which reach the caller only if all fit. */
SMOLQ_API smolq_result smolq_chat_tokenize(const smolq_vocab *vocab, const smolq_message *messages, size_t n_messages, const smolq_chat_options *options,
                                           int32_t *ids, size_t capacity, size_t *n_ids, smolq_error *err)
{
    smolq_chat_options o;
    smolq__chat_writer w;
    smolq__heap heap;
    smolq_result result;
    smolq__options(&o, sizeof o, options, (uint32_t)sizeof o);
    if (!vocab || (!messages && n_messages) || !n_ids) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_chat_tokenize: vocab, messages or n_ids is NULL");
    memset(&w, 0, sizeof w);
    w.vocab = vocab;
    w.row = smolq__chat_find(vocab, o.format);
    w.err = err;
    if (!w.row) return smolq__fail_format(vocab, o.format, err);
    result = smolq__check_messages(w.row, messages, n_messages, err);
    if (result != SMOLQ_OK) return result;
    smolq__chat_render(&w, messages, n_messages, &o);
    if (w.result != SMOLQ_OK) return w.result;
    smolq__heap_init(&heap, &vocab->allocator, 0);
    w.room = !ids ? 0 : capacity < w.total ? capacity : (size_t)w.total;
    w.run = (char *)smolq__alloc(&heap, w.longest + 1);
    if (w.run && w.room) w.ids = (int32_t *)smolq__alloc(&heap, (uint64_t)w.room * sizeof *w.ids);
    if (!w.run || (w.room && !w.ids)) {
        result = smolq__fail_memory(&heap, err, "a conversation");
    } else {
        w.n_ids = 0;
        w.eats = 0;
        smolq__chat_render(&w, messages, n_messages, &o);
        result = w.result;
        if (result == SMOLQ_OK) {
            *n_ids = w.n_ids;
            if (w.n_ids > w.room) result = smolq__fail(err, SMOLQ_E_BUFFER, "the conversation has %llu tokens, ids has room for %llu", (unsigned long long)w.n_ids, (unsigned long long)capacity);
            else if (w.n_ids) memcpy(ids, w.ids, w.n_ids * sizeof *ids);
        }
    }
    smolq__heap_close(&heap);
    return result;
}
