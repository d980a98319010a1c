// The work of the digest program on an ARMv6-M core: a CRC-32 of each page, SHA-256 of a stretch of flash.
//
// Nothing here has an address of its own: constants and parameters come as pointers, so the program runs anywhere.

typedef unsigned int word;
typedef unsigned char byte;

enum { DONE = 0x5A, RELOAD = 0xAAAA, BLOCK = 64, MAX_GROUPS = 3, MAX_ENDS = 9, MAX_USARTS = 4, LONGEST_WAIT = 0x10000 };

struct pages {
    const word *first;          // the first page
    word size;                  // bytes, a multiple of 4
    word count;
};

struct parameters {
    struct pages groups[MAX_GROUPS];
    word nonce;
    const byte *first;          // the first byte that is hashed
    const byte *ends[MAX_ENDS]; // rising; 0 closes the list
    volatile word *watchdog;    // IWDG_KR, or 0
    word control_at, enabled;   // offset of CR1 in a USART, and its bit UE
    word status_at, data_at;    // offsets of SR or ISR, and of DR or TDR
    byte *usarts[MAX_USARTS];   // 0 closes the list
    word checksum;
    word results[];
};

static word rotated(word value, int by) { return value >> by | value << (32 - by); }

static word big_endian(const byte *at) { return (word)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]; }

static void refresh(volatile word *watchdog)
{
    if (watchdog)
        *watchdog = RELOAD;
}

// FIPS 180-4 section 6.2.2, with the schedule in 16 words that are used again.
static void compress(word *hash, const byte *data, const word *constants)
{
    word schedule[16], s[8];
    for (int i = 0; i < 8; i++)
        s[i] = hash[i];
    for (int i = 0; i < 64; i++) {
        word *w = &schedule[i & 15];
        if (i < 16) {
            *w = big_endian(data + 4 * i);
        } else {
            word two = schedule[(i - 2) & 15], fifteen = schedule[(i - 15) & 15];
            *w += schedule[(i - 7) & 15];
            *w += rotated(two, 17) ^ rotated(two, 19) ^ two >> 10;
            *w += rotated(fifteen, 7) ^ rotated(fifteen, 18) ^ fifteen >> 3;
        }
        word a = s[0], e = s[4];
        word t = s[7] + constants[i] + *w + (s[6] ^ (e & (s[5] ^ s[6])));
        t += rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
        word u = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
        u += (a & (s[1] | s[2])) | (s[1] & s[2]);
        s[7] = s[6];
        s[6] = s[5];
        s[5] = e;
        s[4] = s[3] + t;
        s[3] = s[2];
        s[2] = s[1];
        s[1] = a;
        s[0] = t + u;
    }
    for (int i = 0; i < 8; i++)
        hash[i] += s[i];
}

// The digest of what `hash` has taken, and of the bytes from `at` to `end`; `hash` itself goes on.
static void finish(word *digest, const word *hash, const byte *at, const byte *end, word bytes, const word *constants)
{
    byte last[BLOCK];
    for (int i = 0; i < 8; i++)
        digest[i] = hash[i];
    int used = 0;
    while (at != end)
        last[used++] = *at++;
    last[used++] = 0x80;
    if (used > BLOCK - 8) {
        while (used < BLOCK)
            last[used++] = 0;
        compress(digest, last, constants);
        used = 0;
    }
    while (used < BLOCK - 5)
        last[used++] = 0;
    // The number of bits has 35 bits at most.
    last[used++] = bytes >> 29;
    last[used++] = bytes >> 21;
    last[used++] = bytes >> 13;
    last[used++] = bytes >> 5;
    last[used] = bytes << 3;
    compress(digest, last, constants);
}

// The CRC-32 of one page, four bits at a time. Inlined, it would not keep its variables in registers.
__attribute__((noinline)) static word sum_page(const word *at, const word *end, const word *table)
{
    word sum = ~0u;
    while (at != end) {
        sum ^= *at++;
        for (int nibble = 0; nibble < 8; nibble++)
            sum = sum >> 4 ^ table[sum & 15];
    }
    return ~sum;
}

static void sum_pages(const struct parameters *given, word *sums)
{
    word table[16];
    for (word nibble = 0; nibble < 16; nibble++) {
        word sum = nibble;
        for (int bit = 0; bit < 4; bit++)
            sum = sum & 1 ? sum >> 1 ^ 0xEDB88320 : sum >> 1;
        table[nibble] = sum;
    }
    for (const struct pages *group = given->groups; group != given->groups + MAX_GROUPS; group++) {
        const word *at = group->first;
        for (word page = 0; page < group->count; page++) {
            refresh(given->watchdog);
            const word *end = at + group->size / 4;
            *sums++ = sum_page(at, end, table);
            at = end;
        }
    }
}

void work(struct parameters *given, const word *constants)
{
    word *digests = given->results + 2;
    sum_pages(given, digests + 64);

    word hash[8];
    for (int i = 0; i < 8; i++)
        hash[i] = constants[64 + i];
    const byte *at = given->first;
    for (const byte **end = given->ends; *end; end++) {
        while (*end - at >= BLOCK) {
            refresh(given->watchdog);
            compress(hash, at, constants);
            at += BLOCK;
        }
        finish(digests, hash, at, *end, *end - given->first, constants);
        digests += 8;
    }
    given->results[0] = given->nonce;
    given->results[1] = ~given->nonce;

    // The bootloader may have switched its USART off.
    for (byte **usart = given->usarts; *usart; usart++) {
        volatile word *status = (volatile word *)(*usart + given->status_at);
        if (!(*(volatile word *)(*usart + given->control_at) & given->enabled))
            continue;
        (void)*status; // TC falls only where SR was read before DR is written
        *(volatile word *)(*usart + given->data_at) = DONE;
        for (word left = LONGEST_WAIT; left && !(*status & 1 << 6); left--)
            ;
    }
}
