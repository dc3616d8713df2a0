/* A row of a table. An event that a table does not list is a fault of ours. */
struct move {
    unsigned char listed;
    unsigned char next;
    unsigned char recorded;        /* terminal: durable before the effects */
    unsigned char reply;           /* gateway and city: what is told */
    unsigned char effect;          /* gateway: what is done */
    unsigned char debits, contras; /* city: the entries that are made */
    short effects;                 /* terminal: what is done */
};

extern const struct move terminal_table[256][256], router_table[256][256], ledger_table[256][256];
extern const unsigned char verdicts[256]; /* what a caller of the terminal hears */
