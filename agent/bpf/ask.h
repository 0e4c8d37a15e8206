/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The ask option in a GUE header. What it means is in baton-model's `ask`; a test compares the numbers. */
#pragma once

#define ASK_BYTES 4
#define ASK_KIND 0xb2
#define ASK_VERSION 1
