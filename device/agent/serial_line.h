/* SMP packets on a serial line: lines of base64 (mcumgr, "SMP over console").
 *
 * A frame is the length of packet and check (2 bytes, big endian), the packet, and its CRC-16/XMODEM. It is sent as
 * base64 in lines of at most 128 bytes, which begin with 06 09 (the first) or 04 14 and end with a new line. */
#ifndef BLOCKOTA_SERIAL_LINE_H
#define BLOCKOTA_SERIAL_LINE_H

#include <stdint.h>

enum {
  FRAME_SIZE = 1024,              /* the largest frame, which `mcumgr params` reports as the size of the buffer */
  PACKET_SIZE = FRAME_SIZE - 4,
};

/* The packet of the last frame. It is aligned to a word, and may be changed until the next call of serial_take. */
extern uint8_t *const serial_packet;

/* Take a byte from the line. Return the size of the packet that it completes, or 0. Lines and frames that are not
 * valid are ignored up to the next line that begins a frame. */
uint32_t serial_take(uint8_t byte);

/* Send a packet. */
void serial_send(const uint8_t *packet, uint32_t size);

#endif
