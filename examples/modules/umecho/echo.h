/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * echo.h - a stack server in which every address answers
 */
#ifndef ECHO_H
#define ECHO_H

/* Serve a line (packet_road.h) until its other end is closed. Return: 0, or a
 * negative errno. */
int echo_serve(int line);

#endif
