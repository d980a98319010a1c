@ The digest program for ARMv6-M cores: start, check and end; `stub_v6m.c` is what lies between them.
@
@ The program runs at any address that is a multiple of four. The host writes the two words of the vector table.

        .syntax unified
        .cpu    cortex-m0
        .thumb

        .equ    POLYNOMIAL, 0xEDB88320          @ of CRC-32, least significant bit first
        .equ    RESIDUE, 0xDEBB20E3             @ CRC-32's register after data that end with their own CRC-32
        .equ    AIRCR, 0xE000ED0C               @ ARMv6-M Architecture Reference Manual, B3.2.6
        .equ    SYSTEM_RESET, 0x05FA0004

@ --- The head, which the host reads back before it starts it. -----------------------------------------------------

        .section .head, "ax"
vectors:
        .word   0                               @ the end of the stack
        .word   0                               @ start + 1

        .global start
        .thumb_func
start:
        cpsid   i                               @ the bootloader's interrupts have no handlers here
here:   mov     r4, pc                          @ here + 4
        subs    r4, #here + 4 - vectors
        ldr     r0, [r4]
        mov     sp, r0
        ldr     r0, from_vectors_to_checked
        adds    r0, r4
        ldr     r1, from_vectors_to_end
        adds    r1, r4
        ldr     r7, polynomial
        movs    r2, #0
        mvns    r2, r2
1:      ldrb    r3, [r0]
        adds    r0, #1
        eors    r2, r3
        movs    r3, #8
2:      lsrs    r2, #1
        bcc     3f
        eors    r2, r7
3:      subs    r3, #1
        bne     2b
        cmp     r0, r1
        bne     1b
        ldr     r3, residue
        cmp     r2, r3
        bne     reset
        ldr     r0, from_vectors_to_parameters
        adds    r0, r4
        ldr     r1, from_vectors_to_constants
        adds    r1, r4
        bl      work
reset:
        ldr     r0, aircr
        ldr     r1, system_reset
        dsb                                     @ the results are in RAM before it is reset
        str     r1, [r0]
        b       .

        .balign 4
polynomial:     .word   POLYNOMIAL
residue:        .word   RESIDUE
aircr:          .word   AIRCR
system_reset:   .word   SYSTEM_RESET
from_vectors_to_checked:        .word   head_end - vectors
from_vectors_to_end:            .word   checked_end - vectors
from_vectors_to_parameters:     .word   parameters - vectors
from_vectors_to_constants:      .word   constants - vectors
        .global head_end
head_end:

@ --- Constants and parameters, behind the C code. -----------------------------------------------------------------

        .section .tail, "ax"
        .balign 4
@ FIPS 180-4: the 64 words of section 4.2.2, then the first hash value of section 5.3.3.
        .global constants
constants:
        .word   0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1
        .word   0x923F82A4, 0xAB1C5ED5, 0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3
        .word   0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174, 0xE49B69C1, 0xEFBE4786
        .word   0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA
        .word   0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147
        .word   0x06CA6351, 0x14292967, 0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13
        .word   0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85, 0xA2BFE8A1, 0xA81A664B
        .word   0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070
        .word   0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A
        .word   0x5B9CCA4F, 0x682E6FF3, 0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208
        .word   0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2, 0x6A09E667, 0xBB67AE85
        .word   0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19

        .global parameters
parameters:
        .space  116
        .space  4                               @ CRC-32 of everything from `head_end` to here
        .global checked_end
checked_end:
