# Leaves out what nothing here calls and what takes half of the time to compile llama.cpp: the HTTP client, and of the
# library `common` everything but what turns JSON schemas into grammars and what that refers to.

if(NOT PROJECT_NAME STREQUAL "llama.cpp")
    return()
endif()

function(leave_out_unused_parts)
    get_target_property(sources llama-common SOURCES)
    list(FILTER sources INCLUDE REGEX
        "^(common|fit|json|json-schema|json-schema-to-grammar|log|ngram-[a-z]+|reasoning-budget|sampling|speculative|trie|unicode)\\.")
    set_property(TARGET llama-common PROPERTY SOURCES ${sources})
    get_target_property(libraries llama-common LINK_LIBRARIES)
    list(REMOVE_ITEM libraries cpp-httplib)
    set_property(TARGET llama-common PROPERTY LINK_LIBRARIES ${libraries})
    set_property(TARGET cpp-httplib PROPERTY EXCLUDE_FROM_ALL ON)
endfunction()

cmake_language(DEFER CALL leave_out_unused_parts)
