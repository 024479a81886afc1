/* hiredis, the C client: values, expiry, a pipeline, a transaction, messages. scripts/apps.py builds and starts it. */
#include <hiredis/hiredis.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMANDS 10000

static void ensure(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "failed: %s\n", what);
        exit(1);
    }
}

static redisContext *connect_to(int port) {
    redisContext *context = redisConnect("127.0.0.1", port);
    ensure(context && !context->err, "connect");
    return context;
}

/* The reply to a command must have this type, and this text or number. */
static void expect(redisContext *context, int type, const char *text, long long number, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    redisReply *reply = redisvCommand(context, format, arguments);
    va_end(arguments);
    ensure(reply && reply->type == type, format);
    ensure(!text || strncmp(reply->str, text, strlen(text)) == 0, format);
    ensure(type != REDIS_REPLY_INTEGER || reply->integer == number, format);
    freeReplyObject(reply);
}

static void values(redisContext *context) {
    expect(context, REDIS_REPLY_STATUS, "OK", 0, "SET name %s EX 100", "hello big world");
    expect(context, REDIS_REPLY_STRING, "hello big world", 0, "GET name");
    expect(context, REDIS_REPLY_NIL, NULL, 0, "GET nothing");
    expect(context, REDIS_REPLY_STATUS, "OK", 0, "SET binary %b", "a\0b\r\nc", (size_t)6);
    expect(context, REDIS_REPLY_INTEGER, NULL, 6, "STRLEN binary");
    expect(context, REDIS_REPLY_INTEGER, NULL, 1, "PERSIST name");
    expect(context, REDIS_REPLY_INTEGER, NULL, -1, "TTL name");
    expect(context, REDIS_REPLY_ERROR, "ERR value is not an integer", 0, "INCR name");
}

/* All commands are sent before the first reply is read. */
static void pipeline(redisContext *context) {
    for (int n = 0; n < COMMANDS; n++) redisAppendCommand(context, "INCR counter");
    for (int n = 1; n <= COMMANDS; n++) {
        redisReply *reply;
        ensure(redisGetReply(context, (void **)&reply) == REDIS_OK && reply->integer == n, "pipeline");
        freeReplyObject(reply);
    }
}

static void transaction(redisContext *context) {
    expect(context, REDIS_REPLY_STATUS, "OK", 0, "MULTI");
    expect(context, REDIS_REPLY_STATUS, "QUEUED", 0, "INCR counter");
    redisReply *reply = redisCommand(context, "EXEC");
    ensure(reply && reply->elements == 1 && reply->element[0]->integer == COMMANDS + 1, "EXEC");
    freeReplyObject(reply);
}

static void messages(redisContext *context, int port) {
    redisContext *subscriber = connect_to(port);
    redisReply *reply = redisCommand(subscriber, "SUBSCRIBE news");
    ensure(reply && reply->elements == 3, "SUBSCRIBE");
    freeReplyObject(reply);
    expect(context, REDIS_REPLY_INTEGER, NULL, 1, "PUBLISH news %s", "good");
    ensure(redisGetReply(subscriber, (void **)&reply) == REDIS_OK, "message");
    ensure(reply->elements == 3 && strcmp(reply->element[2]->str, "good") == 0, "message");
    freeReplyObject(reply);
    redisFree(subscriber);
}

int main(int count, char **arguments) {
    int port = count > 1 ? atoi(arguments[1]) : 0;
    redisContext *context = connect_to(port);
    values(context);
    pipeline(context);
    transaction(context);
    messages(context, port);
    redisFree(context);
    printf("hiredis (C) %d.%d.%d: values, expiry, pipeline, MULTI, messages\n", HIREDIS_MAJOR, HIREDIS_MINOR,
           HIREDIS_PATCH);
}
