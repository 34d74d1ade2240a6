/* SPDX-License-Identifier: MIT */
/* The style and the script of every page: page.css and page.js, made into strings by page.py. */
#ifndef CHECK_REPORT_PAGE_H
#define CHECK_REPORT_PAGE_H

extern const char page_css[], page_js[];

#endif
