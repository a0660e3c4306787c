/*
 * HTTP calls made by the backend itself: what actionflow's Enrich is measured against.
 *
 * http_post_once(url text, body text) returns text opens a connection for each call, as pgsql-http does by default.
 * http_post(url text, body text) returns text keeps one libcurl handle in each backend, and with it the connection, as
 * pgsql-http does when it is told to; its options are set once, while pgsql-http sets them for each call.
 *
 * The result is the body of an answer with status 200; anything else is an error.
 */
#include "postgres.h"

#include <curl/curl.h>

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "varatt.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(http_post);
PG_FUNCTION_INFO_V1(http_post_once);

/* The time-out of the Enrich action that it is compared with. */
#define TIMEOUT_MS 2000L

/* As large as an answer that Enrich reads. */
#define MAX_ANSWER (1024 * 1024)

static CURL *kept_handle = NULL;
static struct curl_slist *keep_headers = NULL;
static struct curl_slist *close_headers = NULL;
static char curl_message[CURL_ERROR_SIZE];

/* Fixed, so that no callback of libcurl has to allocate: an error of the server must not jump out of libcurl. */
static char answer[MAX_ANSWER];
static size_t answer_length;

static size_t
keep_answer(char *data, size_t size, size_t count, void *context)
{
	size_t		length = size * count;

	if (length > sizeof(answer) - answer_length)
		return 0;
	memcpy(answer + answer_length, data, length);
	answer_length += length;
	return length;
}

/* Lets a cancelled statement end before its answer is there; libcurl calls it about once a second while it waits. */
static int
stop_when_interrupted(void *context, curl_off_t download_total, curl_off_t downloaded, curl_off_t upload_total,
					  curl_off_t uploaded)
{
	return QueryCancelPending || ProcDiePending;
}

static void
check(CURLcode code, const char *step)
{
	if (code != CURLE_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not %s: %s", step, curl_message[0] ? curl_message : curl_easy_strerror(code))));
}

#define SET_OPTION(handle, option, value) \
	check(curl_easy_setopt(handle, option, value), "set " #option)

static struct curl_slist *
add_header(struct curl_slist *list, const char *header)
{
	struct curl_slist *longer = curl_slist_append(list, header);

	if (longer == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return longer;
}

static struct curl_slist *
make_headers(const char *connection)
{
	struct curl_slist *list = add_header(NULL, "content-type: application/json");

	/* Otherwise libcurl asks before it sends a long body, which costs a second round trip. */
	list = add_header(list, "expect:");
	return add_header(list, connection);
}

void
_PG_init(void)
{
	check(curl_global_init(CURL_GLOBAL_DEFAULT), "initialize libcurl");
	keep_headers = make_headers("connection: keep-alive");
	close_headers = make_headers("connection: close");
}

static CURL *
make_handle(void)
{
	CURL	   *handle = curl_easy_init();

	if (handle == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return handle;
}

/* Everything that is the same for each call. */
static void
set_options(CURL *handle, struct curl_slist *headers)
{
	SET_OPTION(handle, CURLOPT_ERRORBUFFER, curl_message);
	SET_OPTION(handle, CURLOPT_NOSIGNAL, 1L);
	SET_OPTION(handle, CURLOPT_POST, 1L);
	SET_OPTION(handle, CURLOPT_HTTPHEADER, headers);
	SET_OPTION(handle, CURLOPT_FORBID_REUSE, headers == close_headers ? 1L : 0L);
	SET_OPTION(handle, CURLOPT_TIMEOUT_MS, TIMEOUT_MS);
	SET_OPTION(handle, CURLOPT_PROXY, "");
	SET_OPTION(handle, CURLOPT_WRITEFUNCTION, keep_answer);
	SET_OPTION(handle, CURLOPT_XFERINFOFUNCTION, stop_when_interrupted);
	SET_OPTION(handle, CURLOPT_NOPROGRESS, 0L);
}

static void
perform(CURL *handle, const char *url, const text *body)
{
	CURLcode	code;
	long		status = 0;

	SET_OPTION(handle, CURLOPT_URL, url);
	SET_OPTION(handle, CURLOPT_POSTFIELDSIZE, (long) VARSIZE_ANY_EXHDR(body));
	SET_OPTION(handle, CURLOPT_POSTFIELDS, VARDATA_ANY(body));
	answer_length = 0;
	curl_message[0] = '\0';
	code = curl_easy_perform(handle);
	/* The interrupt says more than libcurl, which only knows that it was told to stop. */
	if (code == CURLE_ABORTED_BY_CALLBACK)
		CHECK_FOR_INTERRUPTS();
	check(code, "perform the request");
	check(curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status), "read the status");
	if (status != 200)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("the endpoint answered with status %ld", status)));
}

static text *
post(CURL *handle, FunctionCallInfo fcinfo)
{
	char	   *url = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *converted;

	perform(handle, url, PG_GETARG_TEXT_PP(1));
	/* Also checks that it is text at all; returns its argument when nothing has to be converted. */
	converted = pg_any_to_server(answer, (int) answer_length, PG_UTF8);
	if (converted != answer)
		return cstring_to_text(converted);
	return cstring_to_text_with_len(answer, (int) answer_length);
}

Datum
http_post(PG_FUNCTION_ARGS)
{
	if (kept_handle == NULL)
	{
		CURL	   *handle = make_handle();

		set_options(handle, keep_headers);
		kept_handle = handle;
	}
	PG_RETURN_TEXT_P(post(kept_handle, fcinfo));
}

Datum
http_post_once(PG_FUNCTION_ARGS)
{
	CURL	   *handle = make_handle();
	text	   *volatile result = NULL;

	PG_TRY();
	{
		set_options(handle, close_headers);
		result = post(handle, fcinfo);
	}
	PG_FINALLY();
	{
		curl_easy_cleanup(handle);
	}
	PG_END_TRY();
	PG_RETURN_TEXT_P(result);
}
