#include "session.h"

#include "boot_report.h"
#include "bytes.h"
#include "chip.h"
#include "sha256.h"
#include "state.h"

enum { ID_SIZE = 16, NONCE_SIZE = 32 };

static uint8_t nonce[NONCE_SIZE], id[ID_SIZE]; /* of the session; the nonce is ours */
static uint8_t offered[DIGEST_SIZE];
static bool has_begun, is_open;

bool session_allows(const uint8_t *digest) {
  if (!(LAST_BOOT->flags & BOOT_SIGNATURE_CHECKED)) return true;
  return is_open && (!digest || bytes_are_equal(digest, offered, DIGEST_SIZE));
}

static void begin_message(struct sha256 *state, const char *purpose) {
  sha256_begin(state);
  while (*purpose) sha256_add(state, (const uint8_t *)purpose++, 1);
}

/* Begin a session: sign the gateway's nonce, the session and the time, and return a nonce that it must sign. */
enum smp_error device_session(struct smp_exchange *exchange) {
  struct sha256 state;
  struct cbor_item item;
  uint8_t message[8] = {0}, digest[DIGEST_SIZE], signature[CHIP_SIGNATURE], serial[CHIP_SERIAL];
  const uint8_t *gateway_nonce = smp_digest(exchange, "nonce");
  if (!gateway_nonce || !cbor_find(exchange->body, "id", CBOR_BYTES, &item) || item.value != ID_SIZE) return SMP_INVALID;
  write_32(message + 4, __builtin_bswap32(smp_number(exchange, "time", 0)));
  has_begun = is_open = false;
  for (uint32_t i = 0; i < ID_SIZE; i++) id[i] = item.data[i];
  if (!chip_random(nonce)) return SMP_NO_CHIP;

  begin_message(&state, "blockota-session");
  sha256_add(&state, gateway_nonce, NONCE_SIZE);
  sha256_add(&state, id, ID_SIZE);
  sha256_add(&state, message, sizeof message);
  sha256_add(&state, nonce, NONCE_SIZE);
  sha256_end(&state, digest);
  if (!chip_sign(digest, signature) || !chip_read_serial(serial)) return SMP_NO_CHIP;

  has_begun = true;
  cbor_put_map(&exchange->answer, "nonce" FIELD_DIGEST "signature" FIELD_SIGNATURE "serial" FIELD_LAST, nonce, signature);
  cbor_put_string(&exchange->answer, CBOR_BYTES, serial, CHIP_SERIAL);
  return SMP_OK;
}

/* Take the offer of an image, which the gateway has signed together with the nonce and the session. */
enum smp_error device_open(struct smp_exchange *exchange) {
  struct sha256 state;
  struct cbor_item signature;
  uint8_t digest[DIGEST_SIZE];
  const uint8_t *wanted = smp_digest(exchange, "digest");
  if (!wanted || !cbor_find(exchange->body, "signature", CBOR_BYTES, &signature) || signature.value != CHIP_SIGNATURE)
    return SMP_INVALID;
  if (!has_begun) return SMP_NOTHING_BEGUN;

  begin_message(&state, "blockota-offer");
  sha256_add(&state, nonce, NONCE_SIZE);
  sha256_add(&state, id, ID_SIZE);
  sha256_add(&state, wanted, DIGEST_SIZE);
  sha256_end(&state, digest);
  is_open = chip_verify_gateway(digest, signature.data);
  if (!is_open) return SMP_NOT_THE_GATEWAY;
  for (uint32_t i = 0; i < DIGEST_SIZE; i++) offered[i] = wanted[i];
  cbor_put_map(&exchange->answer, "");
  return SMP_OK;
}
