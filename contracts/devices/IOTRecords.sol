// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title Records of Trusted-IoT-Alliance/IOTRegistry: protobuf messages and the keys of its state
/// @dev The bytes are those of Go's protobuf package: fields in the order of their numbers, empty ones left out. The tag
/// of a field is its number * 8 + 2.
library IOTRecords {
    uint256 private constant ONES = 0x0101010101010101010101010101010101010101010101010101010101010101;

    /// @notice Encodes Thing{Aliases: 1, RegistrantPubkey: 2 (hex), Data: 3, SpecName: 4}.
    /// @param aliases Names of the thing.
    /// @param publicKey Compressed key of the registrant.
    /// @param data Text of the thing.
    /// @param specName Name of its spec.
    /// @return record The message.
    /// @return keyAt Offset of the hex text of the key inside the message.
    function thing(
        string[] memory aliases,
        bytes memory publicKey,
        string memory data,
        string memory specName
    ) internal pure returns (bytes memory record, uint256 keyAt) {
        for (uint256 i = 0; i < aliases.length; ++i) {
            record = abi.encodePacked(record, field(0x0a, bytes(aliases[i])));
        }
        keyAt = record.length + 2;
        record = abi.encodePacked(
            record,
            field(0x12, toHex(publicKey)),
            field(0x1a, bytes(data)),
            field(0x22, bytes(specName))
        );
    }

    /// @notice Encodes Spec{Data: 1, RegistrantPubkey: 2 (hex)}.
    /// @param data Text of the spec.
    /// @param publicKey Compressed key of the registrant.
    /// @return record The message.
    function spec(string memory data, bytes memory publicKey) internal pure returns (bytes memory record) {
        return abi.encodePacked(field(0x0a, bytes(data)), field(0x12, toHex(publicKey)));
    }

    /// @notice Encodes Registrant{RegistrantName: 1, RegistrantPubkey: 3}.
    /// @param name Name of the registrant.
    /// @param publicKey Compressed key of the registrant.
    /// @return record The message.
    function registrant(bytes memory name, bytes memory publicKey) internal pure returns (bytes memory record) {
        return abi.encodePacked(field(0x0a, name), field(0x1a, publicKey));
    }

    /// @notice Encodes Alias{Nonce: 1}.
    /// @param nonce Id of the thing with the alias.
    /// @return record The message.
    function aliasOf(bytes memory nonce) internal pure returns (bytes memory record) {
        return field(0x0a, nonce);
    }

    /// @notice Hashes the key of a thing's record.
    /// @param nonce Id of the thing.
    /// @return key The hash.
    function thingKey(bytes memory nonce) internal pure returns (bytes32 key) {
        return keccak256(abi.encodePacked("Thing:", toHex(nonce)));
    }

    /// @notice Hashes the key of an alias' record.
    /// @param aliasText The alias.
    /// @return key The hash.
    function aliasKey(string memory aliasText) internal pure returns (bytes32 key) {
        return keccak256(abi.encodePacked("Alias:", aliasText));
    }

    /// @notice Hashes the key of a spec's record.
    /// @param name Name of the spec.
    /// @return key The hash.
    function specKey(string memory name) internal pure returns (bytes32 key) {
        return keccak256(abi.encodePacked("Spec:", name));
    }

    /// @notice Hashes the key of a registrant's record.
    /// @param publicKey Compressed key of the registrant.
    /// @return key The hash.
    function registrantKey(bytes memory publicKey) internal pure returns (bytes32 key) {
        return keccak256(abi.encodePacked("RegistrantPubkey:", toHex(publicKey)));
    }

    /// @notice Encodes a field: tag, length and content; nothing for an empty content.
    /// @param tag Tag of the field.
    /// @param content Content of the field, less than 16,384 bytes.
    /// @return encoded The field.
    function field(bytes1 tag, bytes memory content) internal pure returns (bytes memory encoded) {
        uint256 length = content.length;
        if (length == 0) return encoded;
        if (length < 0x80) return abi.encodePacked(tag, uint8(length), content);
        return abi.encodePacked(tag, uint8(length | 0x80), uint8(length >> 7), content);
    }

    /// @notice Writes bytes as lower-case hexadecimal text.
    /// @param data The bytes.
    /// @return text Two characters for each byte.
    function toHex(bytes memory data) internal pure returns (bytes memory text) {
        uint256 length = data.length;
        text = new bytes((2 * length + 31) & ~uint256(31));
        for (uint256 i = 0; i < length; i += 16) {
            uint256 part;
            assembly ("memory-safe") {
                part := shr(128, mload(add(add(data, 32), i)))
            }
            part = _hexOf(part);
            assembly ("memory-safe") {
                mstore(add(add(text, 32), mul(2, i)), part)
            }
        }
        assembly ("memory-safe") {
            mstore(text, mul(2, length))
        }
    }

    /// @dev Writes 16 bytes as 32 characters: spreads the half bytes over the word, then adds "0", and 39 more to those
    /// above 9.
    function _hexOf(uint256 part) private pure returns (uint256 text) {
        text = part;
        text = (text | (text << 64)) & 0x0000000000000000ffffffffffffffff0000000000000000ffffffffffffffff;
        text = (text | (text << 32)) & 0x00000000ffffffff00000000ffffffff00000000ffffffff00000000ffffffff;
        text = (text | (text << 16)) & 0x0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff;
        text = (text | (text << 8)) & 0x00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff;
        text = (text | (text << 4)) & (ONES * 0x0f);
        uint256 letters = ((text + ONES * 6) >> 4) & ONES;
        return text + ONES * 0x30 + letters * 39;
    }
}
