@ The digest stub computes the SHA-256 of a range of flash, and the CRC-32 of each page, on the chip itself.
@
@ The host writes the stub to RAM through the bootloader and starts it with Go. The stub ends with a reset, after which
@ the host reads the results. README.md describes the memory map, the parameters and the results. The stub runs on any
@ ARMv7-M core (Thumb-2).
@
@ The stub is written in assembly because SHA-256 needs every register. For one block, C compiled by GCC 12 (-O2) takes
@ 2349 instructions and 792 bytes of code; `compress` takes 1847 instructions and 408 bytes. Sending one byte of code
@ takes 96 us, as long as 1800 instructions on the chip. Code that runs once is therefore optimised for size, code that
@ runs for every word is optimised for speed, and tables are computed and not sent.

        .syntax unified
        .cpu    cortex-m3
        .thumb
        .text

        .equ    DONE, 0x5A                      @ sent on the USART before the reset
        .equ    POLYNOMIAL, 0xEDB88320          @ of CRC-32, least significant bit first
        .equ    RESIDUE, 0xDEBB20E3             @ CRC-32's register after data that end with their own CRC-32
        .equ    AIRCR, 0xE000ED0C               @ PM0056 section 4.4.5
        .equ    SYSTEM_RESET, 0x05FA0004
        .equ    VTOR, 0xE000ED08                @ PM0056 section 4.4.4
        .equ    HARD_FAULT, 12                  @ offset of the vector
        .equ    RELOAD, 0xAAAA                  @ written to IWDG_KR (RM0008 section 19.4.1)
        .equ    TC_SHIFT, 25                    @ moves the flag TC, bit 6, to the sign
        .equ    BLOCK, 64                       @ bytes of one SHA-256 block
        .equ    SCHEDULE, 256                   @ bytes of its message schedule

@ --- The head, which the host reads back before it starts the stub. -----------------------------------------------

vectors:
        .word   stack_top                       @ the host adds the address of the stub to both words
        .word   start + 1

@ The code after the head is executed only if the CRC-32 of the code and the parameters is right.
        .global start
        .thumb_func
start:
        cpsid   i                               @ the bootloader's interrupts have no handlers here
        ldr     sp, vectors                     @ the Go command of bootloader 2.0 does not set SP
        adr     r0, checked
        adr.w   r1, checked_end
        ldr     r7, polynomial
        mov     r2, #-1
1:      ldrb    r3, [r0], #1
        eors    r2, r3
        bl      shift_out_a_byte
        cmp     r0, r1
        bne     1b
        ldr     r3, residue
        cmp     r2, r3
        beq     checked

reset:
        ldr     r0, aircr
        ldr     r1, system_reset
        dsb                                     @ all results are in RAM before the reset
        str     r1, [r0]
        b       .

@ Shift one byte out of the CRC-32: r2 is the CRC register, r7 the polynomial; changes r3.
shift_out_a_byte:
        movs    r3, #8
1:      lsrs    r2, #1
        it      cs
        eorcs   r2, r7
        subs    r3, #1
        bne     1b
        bx      lr

        .balign 4
polynomial:     .word   POLYNOMIAL
residue:        .word   RESIDUE
aircr:          .word   AIRCR
system_reset:   .word   SYSTEM_RESET

        .global head_end
head_end:

@ --- CRC-32 of every page. ----------------------------------------------------------------------------------------

checked:
        adr.w   r0, fault_vectors               @ a read of memory that does not exist ends in `fault`
        adr.w   r1, fault
        adds    r1, #1
        str     r1, [r0, #HARD_FAULT]
        ldr     r2, vtor
        str     r0, [r2]

        adr.w   r6, crc_table
        movs    r0, #0
1:      mov     r2, r0
        bl      shift_out_a_byte
        str     r2, [r6, r0, lsl #2]
        adds    r0, #1
        lsrs    r2, r0, #8
        beq     1b

        adr.w   r8, page_groups
        adr.w   r7, page_crcs
next_group:
        ldmia.w r8!, {r0, r4, r5}               @ address, bytes a page, pages
        b       3f
1:      bl      refresh_watchdog
        adds    r1, r0, r4
        mov     r2, #-1
2:      ldmia   r0!, {r3}
        eors    r2, r3
        .rept   4
        uxtb    r3, r2
        ldr     r3, [r6, r3, lsl #2]
        eor     r2, r3, r2, lsr #8
        .endr
        cmp     r0, r1
        bne     2b
        mvns    r2, r2
        stmia   r7!, {r2}
3:      subs    r5, #1
        bpl     1b
        adr.w   r0, nonce                       @ the word behind the last group
        cmp     r8, r0
        bne     next_group

@ --- The constants of SHA-256. ------------------------------------------------------------------------------------
@ FIPS 180-4 sections 4.2.2 and 5.3.3: the fractions of the cube roots of the first 64 primes, and of the square
@ roots of the first eight, to 32 bits. r0 is the prime; r12 points to the next constant. The constants begin at a
@ multiple of 256.

        adr.w   r12, constants
        movs    r0, #1
next_number:
        adds    r0, #1
        movs    r2, #1
1:      adds    r2, #1
        udiv    r3, r0, r2
        cmp     r3, r2
        blo     prime                           @ no divisor up to the square root
        mls     r3, r3, r2, r0
        cmp     r3, #0
        bne     1b
        b       next_number
prime:
        mov     r11, #2
        bl      root
        str     r2, [r12]
        tst     r12, #0xE0
        bne     1f
        mov     r11, #1
        bl      root
        str     r2, [r12, #SCHEDULE]            @ in `hash`, which follows the constants
1:      adds    r12, #4
        tst     r12, #0xFF
        bne     next_number

@ --- SHA-256 up to every requested end. ---------------------------------------------------------------------------
@ r0 points to the running hash value, r1 to the next byte to hash, r3 to the next end, r4 to the next digest; r2 is the
@ present end.

        adr.w   r0, hash
        adr     r3, first
        ldmia   r3!, {r1}
        adr.w   r4, digests
next_end:
        ldmia   r3!, {r2}
        cbz     r2, finish
1:      subs    r5, r2, r1
        cmp     r5, #BLOCK
        blo     finalise
        bl      compress
        adds    r1, #BLOCK
        b       1b

@ The padding is hashed into a copy of the hash value, at the digest's address; the running hash value stays unpadded.
finalise:
        ldm     r0, {r5-r12}
        stm     r4, {r5-r12}
        adr.w   r6, padded
        movs    r5, #2 * BLOCK
        movs    r7, #0
1:      subs    r5, #4
        str     r7, [r6, r5]
        bne     1b
        subs    r5, r2, r1
        movs    r7, #0x80
        strb    r7, [r6, r5]
        b       3f
2:      ldrb    r7, [r1, r5]
        strb    r7, [r6, r5]
3:      subs    r5, #1
        bpl     2b
        ldr     r7, first
        subs    r7, r2, r7
        lsls    r7, #3                          @ bits hashed: below 2 ** 32 for any flash
        rev     r7, r7
        subs    r5, r2, r1
        push    {r0, r1}
        mov     r0, r4
        mov     r1, r6
        cmp     r5, #BLOCK - 8
        blo     4f
        bl      compress
        adds    r1, #BLOCK
4:      str     r7, [r1, #BLOCK - 4]
        bl      compress
        pop     {r0, r1}
        adds    r4, #32
        b       next_end

@ --- The end: complete the results, send DONE, reset. -------------------------------------------------------------

finish:
        adr.w   r0, results
        ldr     r1, nonce
        mvns    r2, r1
        stmia   r0!, {r1, r2}
        @ Send DONE on each USART that is on; the bootloader may have switched them off.
        adr     r3, usarts
1:      ldr     r0, [r3], #4
        cbz     r0, 3f
        adr     r4, control_at
        ldm     r4, {r4-r7}                     @ offset of CR1, UE in it, offsets of the status and of the data register
        ldr     r1, [r0, r4]
        tst     r1, r5
        beq     1b
        ldr     r1, [r0, r6]                    @ TC falls only if the status is read before DR is written
        movs    r1, #DONE
        str     r1, [r0, r7]
        mov     r2, #0x10000                    @ 1200 baud at 24 MHz
2:      ldr     r1, [r0, r6]
        lsls    r1, #TC_SHIFT
        bmi     1b
        subs    r2, #1
        bne     2b
        b       1b
3:        b       reset

@ The handler of a hard fault: the nonce without its complement marks the results.
fault:
        adr.w   r0, results
        ldr     r1, nonce
        mov     r2, r1
        stmia   r0!, {r1, r2}
        b       reset

@ --- Subroutines. -------------------------------------------------------------------------------------------------

@ Reload the independent watchdog, in case the option bytes have started it; changes r2 and r3.
refresh_watchdog:
        ldr     r3, watchdog
        movw    r2, #RELOAD
        cbz     r3, 1f
        str     r2, [r3]
1:      bx      lr

@ Compute in r2 the fraction of a root of r0 to 32 bits: the square root if r11 is 1, the cube root if r11 is 2.
@ The loop tries one bit r3:r4 of the root r1:r2 after the other. The power r5:r8 is truncated to 32 bits after the
@ binary point. The cube is truncated once too often; adding r7 compensates for that. Changes r1 to r10.
root:
        movs    r1, #0
        movs    r2, #0
        movs    r3, #4
        movs    r4, #0
1:      adds    r1, r3
        adds    r2, r4
        mov     r5, r1
        mov     r8, r2
        movs    r7, #0
2:      umull   r10, r9, r8, r2
        add     r9, r7
        movs    r6, #0
        umlal   r9, r6, r8, r1
        umlal   r9, r6, r5, r2
        mla     r5, r5, r1, r6
        mov     r8, r9
        adds    r7, #1
        cmp     r7, r11
        bne     2b
        cmp     r5, r0
        blo     3f
        subs    r1, r3
        subs    r2, r4
3:      lsrs    r3, #1
        rrxs    r4, r4
        bcc     1b
        bx      lr

@ Add to r6 or r7 the small sigma of \word: rotations by \first and by \first + \second, and a shift (FIPS 180-4
@ section 4.1.2). Changes r0 and r9.
        .macro  small_sigma sum, word, first, second, shift, addend
        eor     r9, \word, \word, ror #\second
        lsrs    r0, \word, #\shift
        eor     r0, r0, r9, ror #\first
        adds    \sum, \addend, r0
        .endm

@ One round (FIPS 180-4 section 6.2.2). Before the round r0 is h + K + W, and \bc is b ^ c. After the round \ab is
@ a ^ b, which is the b ^ c of the next round. The new e is in \h and the new a in \d, so that after four rounds every
@ variable is in its first register again. Changes r1.
        .macro  round a, b, c, d, e, f, g, h, ab, bc
        eor     r1, \e, \e, ror #5
        eor     r1, r1, \e, ror #19
        add     r0, r0, r1, ror #6
        eor     r1, \f, \g
        ands    r1, \e
        eors    r1, \g
        adds    r0, r1
        add     \h, \d, r0
        eor     r1, \a, \a, ror #11
        eor     r1, r1, \a, ror #20
        add     r0, r0, r1, ror #2
        eor     \ab, \a, \b
        ands    \bc, \ab
        eor     \bc, \bc, \b
        add     \d, r0, \bc
        .endm

@ Two rounds: one instruction loads two words of the schedule, another loads two constants.
        .macro  two_rounds a, b, c, d, e, f, g, h
        pop     {r1, lr}
        adds    r0, \h, r1
        ldrd    r1, r2, [r12], #8
        adds    r0, r1
        add     lr, r2
        round   \a, \b, \c, \d, \e, \f, \g, \h, r2, r3
        add     r0, \g, lr
        round   \d, \a, \b, \c, \h, \e, \f, \g, r3, r2
        .endm

@ Hash the 64 bytes at r1, aligned or not, into the hash value at r0; keeps r0 to r7.
compress:
        push    {r0-r7, lr}
        bl      refresh_watchdog
        sub     sp, #SCHEDULE - BLOCK
        adds    r1, #BLOCK
        movs    r4, #8
1:      ldr     r3, [r1, #-4]!
        ldr     r2, [r1, #-4]!
        rev     r3, r3
        rev     r2, r2
        push    {r2, r3}
        subs    r4, #1
        bne     1b

        mov     r1, sp                          @ compute 48 words, two at a time, from the words 16, 15, 7 and 2 before
        add     r8, sp, #SCHEDULE - BLOCK
        ldrd    r2, r3, [sp, #56]
1:      ldmia   r1!, {r0, r4}
        ldr     r5, [r1]
        ldrd    r6, r7, [r1, #28]
        adds    r6, r0
        adds    r7, r4
        small_sigma r6, r4, 7, 11, 3, r6
        small_sigma r7, r5, 7, 11, 3, r7
        small_sigma r2, r2, 17, 2, 10, r6
        small_sigma r3, r3, 17, 2, 10, r7
        strd    r2, r3, [r1, #56]
        cmp     r1, r8
        bne     1b

        ldr     r0, [sp, #SCHEDULE]
        ldmia   r0!, {r8-r11}                   @ a to d; e to h use low registers, for shorter instructions
        ldmia   r0!, {r4-r7}
        adr.w   r12, constants
        eor     r3, r9, r10
1:      two_rounds r8, r9, r10, r11, r4, r5, r6, r7
        two_rounds r10, r11, r8, r9, r6, r7, r4, r5
        tst     r12, #0xFF
        bne     1b

        ldr     r0, [sp]
        ldm     r0, {r1, r2, r3, r12}
        add     r8, r1
        add     r9, r2
        add     r10, r3
        add     r11, r12
        stmia   r0!, {r8-r11}
        ldm     r0, {r1, r2, r3, r12}
        adds    r4, r1
        adds    r5, r2
        adds    r6, r3
        add     r7, r12
        stmia   r0!, {r4-r7}
        pop     {r0-r7, pc}

        .balign 4

@ --- The parameters, which the host writes after the code. --------------------------------------------------------

        .balign 4
vtor:           .word   VTOR

        .global parameters
parameters:
page_groups:    .space  36              @ three times: address of the first page, bytes per page, number of pages
nonce:                  .space  4
first:                  .space  4               @ address of the first byte to hash
ends:                   .space  36              @ end addresses (exclusive), ascending; 0 ends the list
watchdog:               .space  4               @ address of IWDG_KR; 0 if the chip has none there
control_at:             .space  16              @ in a USART: offset of CR1, its bit UE, offsets of status and data
usarts:                 .space  16              @ addresses of USARTs; 0 ends the list
                        .space  4               @ CRC-32 of everything from `checked` to here
        .global checked_end
checked_end:

@ --- Working memory in RAM. ---------------------------------------------------------------------------------------

        .equ    fault_vectors, vectors + 0x480  @ 16, of which one is used
        .equ    constants, vectors + 0x500      @ 256 bytes; the rounds end at the next multiple of 256
        .equ    hash, constants + 256           @ 32
        .equ    padded, hash + 32               @ 128
        .equ    stack_top, vectors + 0x800
        .equ    crc_table, vectors + 0x800      @ 1024
        .equ    results, vectors + 0xC00        @ the nonce, and its complement
        .equ    digests, results + 8            @ eight words each, the most significant first
        .equ    page_crcs, digests + 256
        .global results
