/* One debit between a HIS, a terminal, the gateway and the home city, over lines that lose, delay and repeat.
 *
 * tables.c holds the three tables of the code; here is what surrounds them: who sends what when, what a crash takes
 * away, and what must hold. Checked by tests/simulation/test_model.py; by hand, for safety and for liveness:
 *
 *     spin -a protocol.pml && gcc -O1 -w -DSAFETY -DCOLLAPSE -o pan pan.c tables.c && ./pan
 *     spin -a -DLIVENESS protocol.pml && gcc -O1 -w -DCOLLAPSE -DNFAIR=3 -o pan pan.c tables.c && ./pan -a -f
 *
 * Safety: a request that was sent once can be delivered at any time from then on, or never, as often as you like; that
 * is every loss, delay, reordering and repetition. But a call runs over one TLS connection: requests to a gateway die
 * with its process, and an answer belongs to the call that waits for it; a new call forgets the old one's answer.
 *
 * Liveness: each request is delivered once, or lost, as long as `faults` lasts; then every transaction must end.
 *
 * Left out: other transactions on the same order, epochs and clones, credits, the accounting date.
 */

#include "names.h"

c_decl {
#include "move.h"
};

/* With -DREACH the checker says once of each state that it came there: a check that goes nowhere proves nothing. */
#ifdef REACH
c_decl { static unsigned char seen_terminal[256], seen_router[256], seen_ledger[256]; };
#define SEEN(who) c_code { if (!seen_##who[now.who]) { seen_##who[now.who] = 1; printf("reached " #who " %d\n", now.who); } }
#else
#define SEEN(who) skip
#endif

bool faults = true;

/* the HIS */
bool hold;               /* it wants to confirm */
bool refused;            /* it heard REFUSED, and then the journal said that the debit may have been recorded */

/* the terminal: `journal` and `acknowledged` survive a crash */
byte terminal = PREPARED, journal = PREPARED;
bool acknowledged;       /* the confirmation */
bool door;               /* once REVERSING */
byte asking;             /* 1: sends the debit, 2: only enquires */
bool reversing;

/* the gateway: `router` survives a crash, or is forgotten */
byte router = NONE;
byte g_asking;           /* 1: sends the debit, 2: only enquires */
bool g_undoing, g_confirming;
bool seen;               /* its guards say that a debit was here */
bool g_tombstoning;      /* the reversal is on behalf of a debit, whose caller waits */

/* the city's ledger never forgets */
byte ledger = NONE;
byte debits, contras;

/* lines: requests, and the answer that waits for its caller */
bool tg_first, tg_debit, tg_query, tg_reversal, tg_confirm;
byte gt_debit, gt_reversal, gt_confirm;
bool gl_debit, gl_query, gl_reversal, gl_confirm;
byte lg_debit, lg_reversal, lg_confirm;

/* within one step: what happened, what the table says of it, and which kind of call it belongs to; cleared after it */
byte event, reply, effect, before, told, kind;
short effects;
#define THE_DEBIT 1
#define THE_REVERSAL 2
#define THE_CONFIRMATION 3

#define CONFIRMING (terminal == APPROVED && !acknowledged)
#define MOVED (ledger == POSTED || ledger == CONFIRMED)
#define FINAL(state) (state == APPROVED || state == DECLINED || state == REVERSED || state == ABORTED)
#define QUIET (!tg_first && !tg_debit && !tg_query && !tg_reversal && !tg_confirm && !gt_debit && !gt_reversal && \
    !gt_confirm && !gl_debit && !gl_query && !gl_reversal && !gl_confirm && !lg_debit && !lg_reversal && !lg_confirm)
/* Nobody knows whether an answer will come: while faults last a call is given up at any time. Later only one that is
 * lost, or repetitions for their own sake would be a way never to end. */
#define GIVEN_UP (faults || QUIET)

inline arrive(request) {
#ifdef LIVENESS
    request = false
#else
    skip
#endif
}

inline must_hold() {
    assert(debits <= 1 && contras <= debits);
    assert(!(terminal == APPROVED || journal == APPROVED) || MOVED);
    assert(!(terminal == DECLINED || terminal == REVERSED || terminal == ABORTED || refused) || !MOVED);
    assert(!(ledger == CONFIRMED) || journal == APPROVED);
    assert(!door || terminal == REVERSING || terminal == ACCEPTED || terminal == REVERSED);
    assert(terminal != MANUAL)
}

/* --- terminal ------------------------------------------------------------------------------------------------------ */

/* Decides, records, does. The HIS may ask at any time and is told `told`. A crash between record and effect is a line
 * that loses everything. */
inline happen() {
    before = terminal;
    c_code {
        const struct move *move = &terminal_table[now.terminal][now.event];
        if (!move->listed) uerror("an event that the terminal's table does not list");
        now.terminal = move->next;
        if (move->recorded) now.journal = move->next;
        now.effects = move->effects;
        now.told = verdicts[move->next];
    };
    SEEN(terminal);
    door = door || journal == REVERSING;
    assert(!FINAL(before) || terminal == before);
    assert(!(told == APPROVED) || terminal == APPROVED || terminal == HELD);
    assert(!(told == DECLINED || told == REVERSED || told == REFUSED) || (FINAL(terminal) && terminal != APPROVED));
    if
    :: effects & DO_SEND_DEBIT -> asking = 1; tg_first = true; gt_debit = 0
    :: effects & DO_ENQUIRE -> asking = 2; tg_query = true; gt_debit = 0
    :: effects & DO_SEND_REVERSAL -> asking = 0; reversing = true; tg_reversal = true; gt_reversal = 0
    :: effects & DO_SEND_CONFIRM -> tg_confirm = true; gt_confirm = 0
    :: else
    fi;
    if
    :: terminal != SENT -> asking = 0
    :: else
    fi;
    if
    :: terminal != SENT && terminal != REVERSING -> gt_debit = 0
    :: else
    fi;
    must_hold();
    event = 0; effects = 0; before = 0; told = 0
}

inline hear_debit() {        /* as leg.ask does: what decides nothing is asked again */
    if
    :: gt_debit == POSTED -> event = (hold -> ANSWERED_POSTED_HOLD : ANSWERED_POSTED)
    :: gt_debit == DECLINED -> event = ANSWERED_DECLINED
    :: gt_debit == ALREADY_REVERSED -> event = ANSWERED_ALREADY_REVERSED
    :: gt_debit == UNDECIDED && asking -> tg_query = true
    :: gt_debit == NOT_FOUND && asking == 1 -> tg_debit = true
    :: gt_debit == NOT_FOUND && asking == 2 -> tg_query = true
    :: (gt_debit == UNDECIDED || gt_debit == NOT_FOUND) && !asking
    fi;
    gt_debit = 0
}

inline hear_reversal() {
    if
    :: gt_reversal == REVERSED -> event = REVERSAL_ANSWERED_REVERSED
    :: gt_reversal == ACCEPTED -> event = REVERSAL_ANSWERED_ACCEPTED
    :: gt_reversal == DENIED_CONFIRMED -> event = REVERSAL_ANSWERED_DENIED
    fi;
    gt_reversal = 0; reversing = false
}

inline hear_confirm() {
    if
    :: gt_confirm == CONFIRMED -> event = CONFIRM_ANSWERED_CONFIRMED; acknowledged = true
    :: gt_confirm == TOO_LATE -> assert(false)
    :: gt_confirm == UNDECIDED
    fi;
    gt_confirm = 0
}

inline restart() {
    asking = 0; reversing = false; gt_debit = 0; gt_reversal = 0; gt_confirm = 0;
    terminal = journal;
    if
    :: journal == PREPARED -> terminal = ABORTED; journal = ABORTED
    :: journal != PREPARED -> event = RESTARTED
    :: journal == SENT -> event = RESTARTED_YOUNG
    fi
}

active proctype Terminal() {
    if :: hold = true :: hold = false fi;
end:
    do
    :: atomic {
        if
        :: terminal == PREPARED -> event = GO
        :: terminal == PREPARED -> event = GAVE_UP
        :: terminal == PREPARED && faults ->           /* COMMIT_FAILED: what is on the disk is unknown */
            refused = true;
            if :: journal = SENT :: journal = ABORTED fi;
            restart()
        :: gt_debit != 0 -> hear_debit()
        :: gt_reversal != 0 && reversing -> hear_reversal()
        :: gt_confirm != 0 && CONFIRMING -> hear_confirm()
        :: asking == 1 && GIVEN_UP && !gt_debit && !tg_debit -> tg_debit = true
        :: asking == 2 && GIVEN_UP && !gt_debit && !tg_query -> tg_query = true
        :: reversing && GIVEN_UP && !gt_reversal && !tg_reversal -> tg_reversal = true
        :: CONFIRMING && GIVEN_UP && !gt_confirm && !tg_confirm -> tg_confirm = true
        :: terminal == ACCEPTED && !reversing && GIVEN_UP -> reversing = true; tg_reversal = true
        :: faults && terminal != ABORTED && !(terminal == DECLINED) && !(terminal == REVERSED) -> restart()
        fi;
        if
        :: event != 0 -> happen()
        :: else
        fi }
    od
}

/* Timers are a process of their own: they strike at any time, and in the end. */
active proctype Timers() {
end:
    do
    :: atomic {
        if
        :: terminal == SENT && asking -> event = TIME_UP
        :: terminal == HELD -> event = CONFIRM_TIME_UP
        fi;
        happen() }
    od
}

/* The HIS cancels, confirms, or is silent. */
active proctype His() {
end:
    do
    :: atomic {
        if
        :: terminal == PREPARED || terminal == SENT -> event = CALLER_LEFT
        :: hold && (terminal == HELD || terminal == REVERSING || terminal == ACCEPTED) -> event = HIS_CONFIRMED
        fi;
        happen() }
    od
}

/* --- gateway --------------------------------------------------------------------------------------------------------- */

inline route() {             /* decides, records; then does, or tells who still waits */
    c_code {
        const struct move *move = &router_table[now.router][now.event];
        if (!move->listed) uerror("an event that the router's table does not list");
        now.router = move->next; now.reply = move->reply; now.effect = move->effect;
    };
    SEEN(router);
    if
    :: effect == FORWARD && !g_asking -> g_asking = 1; gl_debit = true; lg_debit = 0
    :: effect == ENQUIRE && !g_asking -> g_asking = 2; gl_query = true; lg_debit = 0
    :: effect == REVERSE || effect == TOMBSTONE ->
        if
        :: g_asking -> gt_debit = ALREADY_REVERSED; g_asking = 0; lg_debit = 0
        :: else
        fi;
        g_tombstoning = g_tombstoning || effect == TOMBSTONE;
        g_undoing = true; gl_reversal = true; lg_reversal = 0
    :: effect == CONFIRM -> g_confirming = true; gl_confirm = true; lg_confirm = 0
    :: else
    fi;
    if
    :: kind == THE_DEBIT && reply == STORED && (router == POSTED || router == CONFIRMED) -> gt_debit = POSTED
    :: kind == THE_DEBIT && reply == STORED && (router == DECLINED || router == REJECTED) -> gt_debit = DECLINED
    :: kind == THE_DEBIT && reply != STORED -> gt_debit = reply
    :: kind == THE_REVERSAL && (reply == STORED_REVERSAL || reply == WAS_DECLINED) -> gt_reversal = REVERSED
    :: kind == THE_REVERSAL && reply == ACCEPTED -> gt_reversal = ACCEPTED
    :: kind == THE_REVERSAL && (reply == DENIED_CONFIRMED || reply == DENIED_BY_LEDGER) -> gt_reversal = DENIED_CONFIRMED
    :: kind == THE_CONFIRMATION && reply -> gt_confirm = reply
    :: else
    fi;
    if
    :: kind == THE_REVERSAL && g_tombstoning && !effect ->
        gt_debit = (reply == STORED_REVERSAL -> ALREADY_REVERSED : UNDECIDED);
        g_tombstoning = false
    :: else
    fi;
    if
    :: terminal != SENT && terminal != REVERSING -> gt_debit = 0    /* nobody waits */
    :: else
    fi;
    if
    :: !reversing -> gt_reversal = 0
    :: else
    fi;
    if
    :: !CONFIRMING -> gt_confirm = 0
    :: else
    fi;
    event = 0; reply = 0; effect = 0; kind = 0
}

inline a_debit_arrives(refusal) {
    kind = THE_DEBIT;
    if
    :: router == NONE -> event = DEBIT_ADMITTED
    :: router == NONE && !seen -> event = refusal
    :: router == NONE && !seen -> event = DEBIT_TOO_LATE
    :: router == NONE && seen -> event = DEBIT_SEEN
    :: router != NONE -> event = DEBIT_AGAIN
    fi;
    seen = seen || event == DEBIT_ADMITTED || event == DEBIT_REFUSED
}

inline hear_ledger() {
    if
    :: lg_debit == POSTED -> event = LEDGER_POSTED
    :: lg_debit == CONFIRMED -> event = LEDGER_CONFIRMED
    :: lg_debit == DECLINED -> event = LEDGER_DECLINED
    :: lg_debit == ALREADY_REVERSED -> event = LEDGER_REVERSED
    :: lg_debit == NOT_FOUND && g_asking == 1 -> gl_debit = true
    :: lg_debit == NOT_FOUND && g_asking == 2 -> event = LEDGER_SILENT
    fi;
    if
    :: event != 0 -> g_asking = 0; kind = THE_DEBIT
    :: else
    fi;
    lg_debit = 0
}

/* It dies, and finds its row or has lost it, and its guards with it; but what it has decided to reverse it never loses
 * (REV). */
inline crash() {
    g_asking = 0; g_undoing = false; g_confirming = false; g_tombstoning = false;
    tg_first = false; tg_debit = false; tg_query = false; tg_reversal = false; tg_confirm = false;
    gt_debit = 0; gt_reversal = 0; gt_confirm = 0; lg_debit = 0; lg_reversal = 0; lg_confirm = 0;
    if
    :: router != REV -> router = NONE; seen = false
    :: router != REV -> router = NONE
    :: router == FWD || router == REV -> event = RESTART
    :: router != FWD && router != REV
    fi
}

active proctype Gateway() {
end:
    do
    :: atomic {
        if
        :: tg_first -> arrive(tg_first); a_debit_arrives(DEBIT_REFUSED)
        :: tg_debit -> arrive(tg_debit); a_debit_arrives(DEBIT_REFUSED_REPEAT)
        :: tg_query ->
            arrive(tg_query);
            if
            :: g_asking && terminal == SENT -> gt_debit = UNDECIDED
            :: g_asking && terminal != SENT
            :: !g_asking -> event = QUERY; kind = THE_DEBIT
            fi
        :: tg_reversal -> arrive(tg_reversal); event = REVERSAL; kind = THE_REVERSAL
        :: tg_confirm -> arrive(tg_confirm); event = CONFIRM; kind = THE_CONFIRMATION
        :: lg_debit != 0 -> hear_ledger()
        :: lg_reversal != 0 ->
            event = (lg_reversal == DENIED_CONFIRMED -> LEDGER_DENIED : LEDGER_UNDID); kind = THE_REVERSAL;
            lg_reversal = 0; g_undoing = false
        :: lg_confirm != 0 ->
            event = (lg_confirm == CONFIRMED -> LEDGER_CONFIRM_OK :
                (lg_confirm == TOO_LATE -> LEDGER_CONFIRM_TOO_LATE : LEDGER_CONFIRM_SILENT));
            kind = THE_CONFIRMATION; lg_confirm = 0; g_confirming = false
        :: g_asking == 1 && GIVEN_UP && !lg_debit && !gl_debit -> gl_debit = true
        :: g_asking == 2 && GIVEN_UP && !lg_debit && !gl_query -> gl_query = true
        :: g_undoing && GIVEN_UP && !lg_reversal && !gl_reversal -> gl_reversal = true
        :: g_asking && GIVEN_UP && !lg_debit -> g_asking = 0; event = LEDGER_SILENT; kind = THE_DEBIT
        :: g_undoing && faults -> event = LEDGER_KEEPS_SILENT; kind = THE_REVERSAL
        :: g_confirming && GIVEN_UP && !lg_confirm ->
            g_confirming = false; event = LEDGER_CONFIRM_SILENT; kind = THE_CONFIRMATION
        :: faults -> crash()
        fi;
        if
        :: event != 0 -> route()
        :: else
        fi }
    od
}

/* --- the home city --------------------------------------------------------------------------------------------------- */

active proctype City() {
end:
    do
    :: atomic {
        if
        :: gl_debit ->
            arrive(gl_debit); kind = THE_DEBIT;
            if
            :: ledger == NONE -> event = DEBIT_GRANTED
            :: ledger == NONE -> event = DEBIT_REFUSED
            :: ledger != NONE -> event = DEBIT_AGAIN
            fi
        :: gl_query -> arrive(gl_query); event = QUERY; kind = THE_DEBIT
        :: gl_reversal -> arrive(gl_reversal); event = REVERSAL; kind = THE_REVERSAL
        :: gl_confirm -> arrive(gl_confirm); event = CONFIRM; kind = THE_CONFIRMATION
        fi;
        c_code {
            const struct move *move = &ledger_table[now.ledger][now.event];
            if (!move->listed) uerror("an event that the ledger's table does not list");
            now.ledger = move->next; now.reply = move->reply;
            now.debits += move->debits; now.contras += move->contras;
        };
        SEEN(ledger);
        if                                             /* an answer that nobody waits for is none */
        :: kind == THE_DEBIT && g_asking -> lg_debit = (reply == POSTED && ledger == CONFIRMED -> CONFIRMED : reply)
        :: kind == THE_REVERSAL && g_undoing -> lg_reversal = reply
        :: kind == THE_CONFIRMATION && g_confirming -> lg_confirm = reply
        :: else
        fi;
        event = 0; reply = 0; kind = 0;
        must_hold() }
    od
}

/* --- faults ---------------------------------------------------------------------------------------------------------- */

#ifdef LIVENESS
active proctype Faults() {
    do
    :: atomic { tg_first = false; tg_debit = false; tg_query = false; tg_reversal = false; tg_confirm = false }
    :: atomic { gt_debit = 0; gt_reversal = 0; gt_confirm = 0 }
    :: atomic { gl_debit = false; gl_query = false; gl_reversal = false; gl_confirm = false }
    :: atomic { lg_debit = 0; lg_reversal = 0; lg_confirm = 0 }
    :: faults = false; break
    od
}

#define ENDED ((FINAL(terminal) && terminal != APPROVED) || (terminal == APPROVED && acknowledged && ledger == CONFIRMED))
ltl every_transaction_ends { (<> !faults) -> <> ENDED }
#endif
